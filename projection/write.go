package projection

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Copy adds rows to one of the projection's tables by COPY: the fastest way for rows that are new, as those of a fact table
// are. Each row has a value for each column.
func (b *Batch) Copy(ctx context.Context, tx pgx.Tx, table string, columns []string, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	if _, err := tx.CopyFrom(ctx, b.identifier(table), columns, pgx.CopyFromRows(rows)); err != nil {
		return fmt.Errorf("copying into %s: %w", table, err)
	}
	return nil
}

// copyAbove is how many rows make a temporary table cheaper than arrays.
const copyAbove = 1000

// Upsert adds rows, or replaces those with the same key, which must be a unique index of the table. Of several rows with one
// key the last counts. It sends arrays and unnests them, or copies many rows into a temporary table and merges that.
func (b *Batch) Upsert(ctx context.Context, tx pgx.Tx, table string, columns, key []string, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	rows, err := lastOfEach(columns, key, rows)
	if err != nil {
		return fmt.Errorf("writing to %s: %w", table, err)
	}
	target := b.Table(table)
	types, err := columnTypes(ctx, tx, target, columns)
	if err != nil {
		return fmt.Errorf("writing to %s: %w", table, err)
	}
	insert := upsert{
		target: target, columns: columns, list: quoted(columns), types: types,
		tail: ` ON CONFLICT (` + quoted(key) + `) DO ` + replaceBy(columns, key),
	}
	isArray := func(kind string) bool { return strings.HasSuffix(kind, "[]") } // unnest would take it apart
	if len(rows) > copyAbove || slices.ContainsFunc(types, isArray) {
		err = insert.byCopy(ctx, tx, rows)
	} else {
		err = insert.byArrays(ctx, tx, rows)
	}
	if err != nil {
		return fmt.Errorf("writing to %s: %w", table, err)
	}
	return nil
}

// upsert is what both ways to write have in common.
type upsert struct {
	target     string
	columns    []string
	list, tail string // of SQL
	types      []string
}

func (u upsert) byCopy(ctx context.Context, tx pgx.Tx, rows [][]any) error {
	const scratch = "hindsight_merge"
	if _, err := tx.Exec(ctx, `DROP TABLE IF EXISTS pg_temp.`+scratch+`; CREATE TEMP TABLE `+scratch+` ON COMMIT DROP AS SELECT `+u.list+` FROM `+u.target+` WITH NO DATA`, pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"pg_temp", scratch}, u.columns, pgx.CopyFromRows(rows)); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO `+u.target+` (`+u.list+`) SELECT `+u.list+` FROM pg_temp.`+scratch+u.tail, pgx.QueryExecModeSimpleProtocol)
	return err
}

func (u upsert) byArrays(ctx context.Context, tx pgx.Tx, rows [][]any) error {
	// Described first, in two round trips: only the server knows the types, and the transaction keeps the connection.
	arrays := []any{pgx.QueryExecModeDescribeExec}
	params := make([]string, len(u.columns))
	for c := range u.columns {
		values := make([]any, len(rows))
		for i, row := range rows {
			values[i] = row[c]
		}
		arrays, params[c] = append(arrays, values), fmt.Sprintf("$%d::%s[]", c+1, u.types[c])
	}
	_, err := tx.Exec(ctx, `INSERT INTO `+u.target+` (`+u.list+`) SELECT * FROM unnest(`+strings.Join(params, ", ")+`)`+u.tail, arrays...)
	return err
}

func (b *Batch) identifier(table string) pgx.Identifier {
	_ = b.Table(table)
	return b.identifiers[table]
}

func quoted(columns []string) string {
	names := make([]string, len(columns))
	for i, column := range columns {
		names[i] = pgx.Identifier{column}.Sanitize()
	}
	return strings.Join(names, ", ")
}

func replaceBy(columns, key []string) string {
	var sets []string
	for _, column := range columns {
		if !slices.Contains(key, column) {
			name := pgx.Identifier{column}.Sanitize()
			sets = append(sets, name+` = excluded.`+name)
		}
	}
	if len(sets) == 0 {
		return `NOTHING`
	}
	return `UPDATE SET ` + strings.Join(sets, ", ")
}

// lastOfEach keeps the last row of each key, as one statement may touch a row only once.
func lastOfEach(columns, key []string, rows [][]any) ([][]any, error) {
	places := make([]int, len(key))
	for i, column := range key {
		if places[i] = slices.Index(columns, column); places[i] < 0 {
			return nil, fmt.Errorf("the key's column %s is not among the columns", column)
		}
	}
	at := make(map[string]int, len(rows))
	out := make([][]any, 0, len(rows))
	var text strings.Builder
	for i, row := range rows {
		if len(row) != len(columns) {
			return nil, fmt.Errorf("row %d has %d values for %d columns", i, len(row), len(columns))
		}
		text.Reset()
		for _, place := range places {
			_, _ = fmt.Fprintf(&text, "%v\x00", row[place])
		}
		if before, ok := at[text.String()]; ok {
			out[before] = row
			continue
		}
		at[text.String()] = len(out)
		out = append(out, row)
	}
	return out, nil
}

// columnTypes asks the catalog, in the transaction: the table may have been altered.
func columnTypes(ctx context.Context, tx pgx.Tx, table string, columns []string) ([]string, error) {
	rows, err := tx.Query(ctx, `
SELECT format_type(a.atttypid, NULL) FROM unnest($2::text[]) WITH ORDINALITY AS c (name, n)
  JOIN pg_attribute a ON a.attrelid = $1::text::regclass AND a.attname = c.name AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY c.n`, table, columns)
	if err != nil {
		return nil, err
	}
	types, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err == nil && len(types) != len(columns) {
		err = fmt.Errorf("it has not all of the columns %s", strings.Join(columns, ", "))
	}
	return types, err
}
