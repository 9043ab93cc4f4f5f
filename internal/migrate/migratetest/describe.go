// Package migratetest compares schemas, for the tests of each line of migrations.
package migratetest

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Describe is everything the catalogs say of a schema, without its name: two schemas that were made alike are alike in it.
func Describe(t testing.TB, pool *pgxpool.Pool, schema string) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `
SELECT format('%s %s %s', c.relkind, c.relname, coalesce(array_to_string(c.reloptions, ','), '')) FROM pg_class c WHERE c.relnamespace = to_regnamespace($1)
UNION ALL SELECT format('column %s.%s %s %s %s %s', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid))
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE c.relnamespace = to_regnamespace($1) AND a.attnum > 0
UNION ALL SELECT format('constraint %s %s', conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace = to_regnamespace($1)
UNION ALL SELECT format('index %s', indexdef) FROM pg_indexes WHERE schemaname = $1
UNION ALL SELECT format('function %s', pg_get_functiondef(oid)) FROM pg_proc WHERE pronamespace = to_regnamespace($1)
UNION ALL SELECT format('trigger %s', pg_get_triggerdef(t.oid)) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = to_regnamespace($1) AND NOT t.tgisinternal
UNION ALL SELECT format('comment %s %s', obj_description(c.oid), col_description(c.oid, a.attnum)) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = to_regnamespace($1)
UNION ALL SELECT format('migration %s %s', line, version) FROM `+pgx.Identifier{schema}.Sanitize()+`.migrations
ORDER BY 1`, schema)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for i := range lines {
		lines[i] = strings.ReplaceAll(lines[i], schema, "SCHEMA")
	}
	if len(lines) < 80 {
		t.Fatalf("the catalogs say only %d things of %s", len(lines), schema)
	}
	return lines
}
