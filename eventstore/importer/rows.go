package importer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Row is a row of the table, with all of its columns.
type Row struct {
	ID        string // as PostgreSQL prints it
	CreatedAt time.Time

	values [][]byte // by column, as PostgreSQL prints them; nil is NULL
	table  *table
}

// Text is a column as PostgreSQL prints it; false where it is NULL or the table has no such column.
func (r Row) Text(column string) (string, bool) {
	i, ok := r.table.columns[column]
	if !ok || r.values[i] == nil {
		return "", false
	}
	return string(r.values[i]), true
}

// Scan reads a column into a variable, as pgx does.
func (r Row) Scan(column string, into any) error {
	i, ok := r.table.columns[column]
	if !ok {
		return fmt.Errorf("the table has no column %s", column)
	}
	if err := r.table.types.Scan(r.table.typeOIDs[i], pgtype.TextFormatCode, r.values[i], into); err != nil {
		return fmt.Errorf("column %s: %w", column, err)
	}
	return nil
}

// table reads the source.
type table struct {
	db     *pgxpool.Pool
	config TableConfig

	columns  map[string]int // as the first page had them
	typeOIDs []uint32
	types    *pgtype.Map
	idType   string // SQL names of the columns' types
	timeType string
}

func (t *table) from() string {
	return ` FROM ` + pgx.Identifier{t.config.Schema, t.config.Table}.Sanitize() + ` AS t`
}

func (t *table) id() string        { return `t.` + pgx.Identifier{t.config.IDColumn}.Sanitize() }
func (t *table) createdAt() string { return `t.` + pgx.Identifier{t.config.CreatedAtColumn}.Sanitize() }

// inspect refuses a table whose rows would be lost in reading it by (created_at, id), and counts them.
func (t *table) inspect(ctx context.Context) (rows int64, err error) {
	t.types = pgtype.NewMap()
	unique, err := t.describe(ctx)
	if err != nil {
		return 0, err
	}
	var lost int64
	var first *string
	unplaced := fmt.Sprintf(`%s IS NULL OR %s IS NULL OR %[2]s < '0001-01-01' OR %[2]s >= '10000-01-01'`, t.id(), t.createdAt())
	err = t.db.QueryRow(ctx, fmt.Sprintf(`SELECT count(*), count(*) FILTER (WHERE %[1]s), min(%[2]s::text) FILTER (WHERE %[1]s)`, unplaced, t.id())+t.from()).
		Scan(&rows, &lost, &first)
	if err != nil {
		return 0, err
	}
	if lost > 0 {
		id := "NULL"
		if first != nil {
			id = *first
		}
		return 0, fmt.Errorf("%w: %d rows have no id, or no %s that is a point in time; one has the id %s", ErrTable, lost, t.config.CreatedAtColumn, id)
	}
	if unique {
		return rows, nil
	}
	var twice string
	err = t.db.QueryRow(ctx, fmt.Sprintf(`SELECT %s::text%s GROUP BY %[1]s HAVING count(*) > 1 LIMIT 1`, t.id(), t.from())).Scan(&twice)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return rows, nil
	case err != nil:
		return 0, err
	}
	return 0, fmt.Errorf("%w: several rows have the id %s", ErrTable, twice)
}

// column is one of the table's; Unique where an index makes it so by itself.
type column struct {
	Name, Type string
	Unique     bool
}

// describe finds the types of the columns that order the rows, and whether an index makes the ids unique.
func (t *table) describe(ctx context.Context) (unique bool, err error) {
	rows, err := t.db.Query(ctx, `
SELECT a.attname, format_type(a.atttypid, a.atttypmod), EXISTS (
         SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
            AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum)
  FROM pg_attribute a WHERE a.attrelid = to_regclass($1::text) AND a.attnum > 0 AND NOT a.attisdropped`,
		pgx.Identifier{t.config.Schema, t.config.Table}.Sanitize())
	if err != nil {
		return false, err
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	if err != nil {
		return false, err
	}
	types := map[string]string{}
	for _, c := range columns {
		types[c.Name] = c.Type
		unique = unique || c.Name == t.config.IDColumn && c.Unique
	}
	if len(types) == 0 {
		return false, fmt.Errorf("%w: there is no such table", ErrTable)
	}
	for _, column := range t.needed() {
		if types[column] == "" {
			return false, fmt.Errorf("%w: it has no column %s", ErrTable, column)
		}
	}
	t.idType, t.timeType = types[t.config.IDColumn], types[t.config.CreatedAtColumn]
	if !strings.HasPrefix(t.timeType, "timestamp") {
		return false, fmt.Errorf("%w: column %s is a %s, want a timestamp", ErrTable, t.config.CreatedAtColumn, t.timeType)
	}
	return unique, nil
}

// needed are the columns that the table must have; a Map may do without the others.
func (t *table) needed() []string {
	columns := []string{t.config.IDColumn, t.config.CreatedAtColumn}
	if t.config.Map == nil {
		columns = append(columns, t.config.TypeColumn, t.config.DataColumn, t.config.StreamColumn)
	}
	if t.config.ProjectColumn != "" {
		columns = append(columns, t.config.ProjectColumn)
	}
	return columns
}

// Pages are to be of some 8 MB: their length follows the size of the rows before, and at most doubles, since those that
// come may be larger.
const (
	firstPage = 50
	maxPage   = 5000
	pageBytes = 8 << 20
)

// rows yields the rows after a key, in order. No connection is held while the loop's body runs.
func (t *table) rows(ctx context.Context, after *key) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for limit := firstPage; ; {
			page, bytes, err := t.page(ctx, after, limit)
			if err != nil {
				yield(Row{}, err)
				return
			}
			for _, row := range page {
				if !yield(row, nil) {
					return
				}
			}
			if len(page) < limit {
				return
			}
			last := page[len(page)-1]
			after = &key{at: last.CreatedAt, id: last.ID}
			limit = max(1, min(2*limit, maxPage, pageBytes*len(page)/max(bytes, 1)))
		}
	}
}

func (t *table) inOrder() string { return ` ORDER BY ` + t.createdAt() + `, ` + t.id() }

// keyColumns are the key: the time in whole microseconds, so that no setting of the session can change it, and the id.
func (t *table) keyColumns() string {
	return fmt.Sprintf(`SELECT (extract(epoch FROM %s) * 1000000)::bigint, %s::text`, t.createdAt(), t.id())
}

func (t *table) page(ctx context.Context, after *key, limit int) (page []Row, bytes int, err error) {
	const tail = ` LIMIT $1::bigint`
	if after == nil {
		return t.read(ctx, t.inOrder()+tail, limit)
	}
	where := fmt.Sprintf(` WHERE (%s, %s) > ($2::%s, $3::text::%s)`, t.createdAt(), t.id(), t.timeType, t.idType)
	return t.read(ctx, where+t.inOrder()+tail, limit, after.at, after.id)
}

// read runs a statement for rows; tail is all that follows the table's name.
func (t *table) read(ctx context.Context, tail string, args ...any) (page []Row, bytes int, err error) {
	rows, err := t.db.Query(ctx, t.keyColumns()+`, t.*`+t.from()+tail, append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)...)
	if err != nil {
		return nil, 0, err
	}
	page, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Row, error) { return t.scan(row, &bytes) })
	return page, bytes, err
}

// fixed is the number of columns before those of the table.
const fixed = 2

func (t *table) scan(row pgx.CollectableRow, bytes *int) (Row, error) {
	if t.columns == nil {
		t.columns = map[string]int{}
		for i, field := range row.FieldDescriptions()[fixed:] {
			t.columns[field.Name] = i
			t.typeOIDs = append(t.typeOIDs, field.DataTypeOID)
		}
	}
	raw := row.RawValues()
	out := Row{table: t, ID: string(raw[1]), values: make([][]byte, len(raw)-fixed)}
	if len(out.values) != len(t.typeOIDs) {
		return out, fmt.Errorf("%w: its columns were changed meanwhile", ErrTable)
	}
	var micros int64
	if err := t.types.Scan(pgtype.Int8OID, pgtype.TextFormatCode, raw[0], &micros); err != nil {
		return out, err
	}
	out.CreatedAt = time.UnixMicro(micros).UTC()
	size := 0
	for _, value := range raw[fixed:] {
		size += len(value)
	}
	kept := make([]byte, 0, size) // one piece of memory a row: raw is valid for this row only
	for i, value := range raw[fixed:] {
		if value != nil {
			from := len(kept)
			kept = append(kept, value...)
			out.values[i] = kept[from:len(kept):len(kept)]
		}
	}
	*bytes += size
	return out, nil
}
