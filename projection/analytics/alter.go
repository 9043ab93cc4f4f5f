package analytics

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
)

// Backfill says how [Star.AddColumn] fills the rows that are there.
type Backfill struct {
	// Value is an SQL expression over the row's other columns, such as "coalesce(language, 'en')". Defaults to the column's
	// DEFAULT.
	Value string
	// Progress is told after each step, each batch and each try that found a table locked. Defaults to nobody.
	Progress func(AddProgress)
}

// AddProgress is how far [Star.AddColumn] has come.
type AddProgress struct {
	Table  string
	Step   string // look (whether it can be), add, fill, hold (to the constraints) or show (in the view)
	Filled int64  // rows of all tables, by this call
	Waits  int    // tries that found a table locked
}

// AddColumn adds a column that is declared, an [Attribute] or a column of one of Config.Facts, to tables in use, while readers
// and the projection go on, under the same Version. Call it before the code that declares the column is deployed, and once more
// when no other code writes any more.
//
//  1. It looks whether Value is an expression of the tables, and whether a row would break a CHECK or the NOT NULL.
//  2. The column is added, nullable, with its DEFAULT for new rows.
//  3. Rows that have none, or the DEFAULT, get Value, 1,000 a transaction: by the second call those that the code in use has
//     written meanwhile. So a DEFAULT that the new code writes must be what Value says, too; best is one that it never writes.
//  4. Its NOT NULL and CHECKs are added as NOT VALID, and validated, which blocks nobody.
//  5. The view, a SELECT * of the columns of its day, is made anew. A reader's prepared SELECT * fails once (SQLSTATE 0A000),
//     one that names its columns does not.
//
// No statement waits for a lock longer than a tenth of a second, as everybody else would wait behind it: it tries again, with
// pauses, for some minutes. After an error, or a kill, call it again: it goes on where it was.
//
// A NOT NULL needs a DEFAULT: the code in use does not write the column. An attribute is added to the dimension's history, too,
// so that Value can name the columns of both alone. A column that refers to a dimension, or is to have an Index, needs another
// Version. Errors match [eventstore.ErrInvalid] for what cannot be, and name the row that is in its way.
func (s *Star) AddColumn(ctx context.Context, table, column string, backfill Backfill) error {
	declared, ok := s.declared(table, column)
	a := &addition{star: s, column: declared, backfill: backfill, of: table}
	switch {
	case !ok:
		a.column.Name = column
		return a.invalid("is none of Config.Attributes, nor of the columns of Config.Facts")
	case declared.Of != "" || declared.Index:
		return a.invalid("refers to a dimension or has an Index, which need another Version")
	}
	if err := a.read(ctx); err != nil {
		return fmt.Errorf("adding column %s to %s: %w", column, table, err)
	}
	switch {
	case !a.plain:
		return a.invalid("is generated, or is a key, which needs another Version")
	case a.notNull && a.standard == "":
		return a.invalid("is NOT NULL without a DEFAULT")
	}
	tables := []string{table}
	if d := Dimension(table); d == Personas || d == Users || d == Projects {
		tables = []string{d.history(), table} // a member is what its history says last
	}
	for _, steps := range [][]func(context.Context) error{{a.look}, {a.add, a.fill, a.hold, a.show}} {
		for _, name := range tables {
			a.progress.Table = name
			for _, step := range steps {
				if err := step(ctx); err != nil {
					return fmt.Errorf("adding column %s to %s: %s: %w", column, name, a.progress.Step, err)
				}
			}
		}
	}
	if err := s.declareColumn(ctx, table, declared); err != nil {
		return fmt.Errorf("adding column %s to %s: noting it: %w", column, table, err)
	}
	return nil
}

// declared finds a column of the user's.
func (s *Star) declared(table, column string) (Column, bool) {
	for _, a := range s.config.Attributes {
		if string(a.Of) == table && a.Column.Name == column {
			return a.Column, true
		}
	}
	for _, f := range s.config.Facts {
		if f.Name != table {
			continue
		}
		if i := slices.IndexFunc(f.Columns, func(c Column) bool { return c.Name == column }); i >= 0 {
			return f.Columns[i], true
		}
	}
	return Column{}, false
}

// addition is a column on its way into a table.
type addition struct {
	star     *Star
	of       string // the table that it was asked for
	column   Column
	backfill Backfill
	progress AddProgress

	// What the column's Type says.
	dataType, standard string
	notNull, plain     bool
	checks             []string // conditions
}

func (a *addition) invalid(reason string) error {
	return &eventstore.InvalidError{Index: -1, Field: "column " + a.of + "." + a.column.Name, Reason: reason}
}

// read lets the server read the column's Type.
func (a *addition) read(ctx context.Context) error {
	sql, err := sqlOf("alter_column")
	if err != nil {
		return err
	}
	return pg.InTx(ctx, a.star.store.Pool(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `CREATE TEMP TABLE hindsight_column (`+a.column.Name+` `+a.column.Type+`) ON COMMIT DROP`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `SELECT set_config('search_path', '', true)`); err != nil { // so that all names are full
			return err
		}
		return tx.QueryRow(ctx, sql, "pg_temp.hindsight_column").Scan(&a.dataType, &a.notNull, &a.standard, &a.checks, &a.plain)
	})
}

func (a *addition) value() string {
	switch {
	case a.backfill.Value != "":
		return a.backfill.Value
	case a.standard != "":
		return a.standard
	}
	return "NULL"
}

func (a *addition) table() string { return a.star.table(a.progress.Table) }

// typed is an expression as the column would have it.
func (a *addition) typed(expression string) string {
	return "((" + expression + ")::" + a.dataType + ")"
}

// look finds out what would stop the next steps, while nothing has changed: a constraint that rows break would else refuse
// what the projection writes.
func (a *addition) look(ctx context.Context) error {
	a.progress.Step = "look"
	var there bool
	err := a.star.store.Pool().QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = $2::text AND NOT attisdropped)`,
		a.table(), a.column.Name).Scan(&there)
	if err != nil {
		return err
	}
	if err := a.tryAgain(ctx, func(tx pgx.Tx) error { // of all partitions, or none
		_, err := tx.Exec(ctx, fmt.Sprintf(`EXPLAIN SELECT FROM %s WHERE %s IS NULL`, a.table(), a.typed(a.value())), pgx.QueryExecModeSimpleProtocol)
		return err
	}); err != nil {
		return err
	}
	standard := cmp.Or(a.standard, "NULL")
	for _, check := range a.checks { // they name no other column
		var broken bool
		sql := fmt.Sprintf(`SELECT EXISTS (SELECT FROM (SELECT %s AS %s) AS r WHERE NOT (%s))`, a.typed(standard), a.column.Name, check)
		if err := a.star.store.Pool().QueryRow(ctx, sql, pgx.QueryExecModeExec).Scan(&broken); err != nil {
			return err
		}
		if broken {
			return a.invalid(fmt.Sprintf("has the DEFAULT %s, which CHECK (%s) refuses", standard, check))
		}
	}
	if there {
		return nil
	}
	return a.unbroken(ctx, func(leaf string) string {
		return fmt.Sprintf(`(SELECT *, %s AS %s FROM %s) AS r`, a.typed(a.value()), a.column.Name, leaf)
	})
}

// unbroken looks for a row that breaks a constraint, in what is made of each table.
func (a *addition) unbroken(ctx context.Context, from func(leaf string) string) error {
	conditions := map[string]string{}
	for _, check := range a.checks {
		conditions["CHECK ("+check+")"] = "NOT (" + check + ")"
	}
	if a.notNull {
		conditions["NOT NULL"] = a.column.Name + " IS NULL"
	}
	leaves, err := a.leaves(ctx)
	if err != nil {
		return err
	}
	for _, l := range leaves {
		for _, constraint := range slices.Sorted(maps.Keys(conditions)) {
			var row []string
			sql := fmt.Sprintf(`SELECT ARRAY[%s] FROM %s WHERE %s LIMIT 1`, l.texts(), from(l.Name), conditions[constraint])
			err := a.tryAgain(ctx, func(tx pgx.Tx) error { return tx.QueryRow(ctx, sql, pgx.QueryExecModeExec).Scan(&row) })
			switch {
			case err == nil:
				return a.invalid(fmt.Sprintf("is %s, which the row of %s breaks whose (%s) is (%s)", constraint, l.Name, strings.Join(l.Key, ", "), strings.Join(row, ", ")))
			case !errors.Is(err, pgx.ErrNoRows):
				return err
			}
		}
	}
	return nil
}

func (a *addition) add(ctx context.Context) error {
	a.progress.Step = "add"
	statements := []string{
		fmt.Sprintf(`ALTER TABLE %s ADD COLUMN IF NOT EXISTS %s %s`, a.table(), a.column.Name, a.dataType),
		fmt.Sprintf(`COMMENT ON COLUMN %s.%s IS %s`, a.table(), a.column.Name, literal(a.column.Comment)),
	}
	if a.standard != "" {
		statements = append(statements, fmt.Sprintf(`ALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s`, a.table(), a.column.Name, a.standard))
	}
	return a.patiently(ctx, statements...)
}

const fillBatch = 1000

// leaf is a table that holds rows: the table itself, or a partition.
type leaf struct {
	Name       string
	Key, Types []string
}

func (l leaf) texts() string { return strings.Join(l.Key, "::text, ") + "::text" }

func (a *addition) leaves(ctx context.Context) ([]leaf, error) {
	sql, err := sqlOf("alter_leaves")
	if err != nil {
		return nil, err
	}
	rows, err := a.star.store.Pool().Query(ctx, sql, a.table())
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[leaf])
}

func (a *addition) fill(ctx context.Context) error {
	a.progress.Step = "fill"
	leaves, err := a.leaves(ctx)
	if err != nil {
		return err
	}
	name := a.column.Name
	// As texts, since not every type can be compared.
	unset := fmt.Sprintf(`(%[1]s IS NULL OR %[1]s::text = %[2]s::text) AND %[1]s::text IS DISTINCT FROM %[3]s::text`, name, a.typed(cmp.Or(a.standard, "NULL")), a.typed(a.value()))
	for _, l := range leaves {
		if err := a.fillLeaf(ctx, l, a.value(), unset); err != nil {
			return err
		}
	}
	d := Dimension(a.progress.Table)
	if d != Personas && d != Users && d != Projects {
		return nil
	}
	// A member that the code in use has changed meanwhile kept its value. One that changes right now has the new code's.
	state := fmt.Sprintf(`FROM %s AS h WHERE h.%[2]s = d.%[2]s AND h.from_position = d.position`, a.star.table(d.history()), d.key())
	stale := fmt.Sprintf(`EXISTS (SELECT %s AND h.%[2]s::text IS DISTINCT FROM d.%[2]s::text)`, state, name)
	for _, l := range leaves {
		if err := a.fillLeaf(ctx, l, `SELECT h.`+name+` `+state, stale); err != nil {
			return err
		}
	}
	return nil
}

// fillLeaf goes along the primary key, and sets the rows that a condition names. Rows that are filled are passed over, so that
// it can begin again at any time.
func (a *addition) fillLeaf(ctx context.Context, l leaf, value, condition string) error {
	key, bound := strings.Join(l.Key, ", "), make([]string, len(l.Key))
	for i := range l.Key {
		bound[i] = fmt.Sprintf("$1::text[])[%d]::%s", i+1, l.Types[i])
	}
	row := func(parameter string) string {
		return "((" + strings.ReplaceAll(strings.Join(bound, ", ("), "$1", parameter) + ")"
	}
	next := fmt.Sprintf(`SELECT ARRAY[%s] FROM (SELECT %s FROM %s AS d WHERE %s AND ($1::text[] IS NULL OR (%s) > %s) ORDER BY %s LIMIT %d) AS page ORDER BY %s DESC LIMIT 1`,
		l.texts(), key, l.Name, condition, key, row("$1"), key, fillBatch, strings.Join(l.Key, " DESC, "))
	update := fmt.Sprintf(`UPDATE %s AS d SET %s = (%s) WHERE %s AND ($1::text[] IS NULL OR (%s) > %s) AND (%s) <= %s`,
		l.Name, a.column.Name, value, condition, key, row("$1"), key, row("$2"))
	var after any // nothing, or the last key that was filled
	for {
		var last []string
		var filled int64
		err := a.tryAgain(ctx, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, next, pgx.QueryExecModeExec, after)
			if err != nil {
				return err
			}
			found, err := pgx.CollectRows(rows, pgx.RowTo[[]string])
			if last = nil; err != nil || len(found) == 0 {
				return err
			}
			last = found[0]
			tag, err := tx.Exec(ctx, update, pgx.QueryExecModeExec, after, last)
			filled = tag.RowsAffected()
			return err
		})
		if err != nil || last == nil {
			return err
		}
		after = last
		a.progress.Filled += filled
		a.tell()
	}
}

// hold adds the constraints. A NOT NULL finds a valid CHECK that says the same, and does not read the table again.
func (a *addition) hold(ctx context.Context) error {
	a.progress.Step = "hold"
	if err := a.unbroken(ctx, func(leaf string) string { return leaf }); err != nil {
		return err
	}
	checks := map[string]string{}
	for i, check := range a.checks {
		checks[fmt.Sprintf("%s_check%d", a.column.Name, i+1)] = check
	}
	held := a.column.Name + "_not_null"
	if a.notNull {
		checks[held] = a.column.Name + " IS NOT NULL"
	}
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		if err := a.holdTo(ctx, name, checks[name]); err != nil {
			return err
		}
	}
	if !a.notNull {
		return nil
	}
	return a.patiently(ctx,
		fmt.Sprintf(`ALTER TABLE %s ALTER COLUMN %s SET NOT NULL`, a.table(), a.column.Name),
		fmt.Sprintf(`ALTER TABLE %s DROP CONSTRAINT %s`, a.table(), held))
}

// holdTo adds a constraint and has it validated. One that rows break is taken away again: it would refuse what the projection
// writes.
func (a *addition) holdTo(ctx context.Context, name, check string) error {
	var there bool
	err := a.star.store.Pool().QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = $1::text::regclass AND conname = $2::text)`, a.table(), name).Scan(&there)
	if err == nil && !there {
		err = a.patiently(ctx, fmt.Sprintf(`ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s) NOT VALID`, a.table(), name, check))
	}
	if err != nil {
		return err
	}
	err = a.patiently(ctx, fmt.Sprintf(`ALTER TABLE %s VALIDATE CONSTRAINT %s`, a.table(), name))
	if pg.Code(err) == pg.CheckViolation {
		err = errors.Join(err, a.patiently(ctx, fmt.Sprintf(`ALTER TABLE %s DROP CONSTRAINT %s`, a.table(), name)))
	}
	return err
}

// show makes the view anew, where it shows this version of the star.
func (a *addition) show(ctx context.Context) error {
	a.progress.Step = "show"
	sql, err := sqlOf("alter_shows")
	if err != nil {
		return err
	}
	var shows bool
	view := quote(a.star.store.Schema(), a.progress.Table)
	if err := a.star.store.Pool().QueryRow(ctx, sql, view, a.table()).Scan(&shows); err != nil || !shows {
		return err
	}
	return a.patiently(ctx, `CREATE OR REPLACE VIEW `+view+` AS SELECT * FROM `+a.table(), // it keeps its rights and its comments
		fmt.Sprintf(`COMMENT ON COLUMN %s.%s IS %s`, view, a.column.Name, literal(a.column.Comment)))
}

// patiently runs statements in one transaction, which waits for no lock for long.
func (a *addition) patiently(ctx context.Context, statements ...string) error {
	err := a.tryAgain(ctx, func(tx pgx.Tx) error {
		for _, statement := range statements {
			if _, err := tx.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		a.tell()
	}
	return err
}

const (
	lockTimeout = "100ms"
	lockTries   = 300
)

// tryAgain runs f in a transaction until no lock is in its way.
func (a *addition) tryAgain(ctx context.Context, f func(tx pgx.Tx) error) error {
	for try := 1; ; try++ {
		err := pg.InTx(ctx, a.star.store.Pool(), func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', $1::text, true), set_config('statement_timeout', '0', true)`, lockTimeout); err != nil {
				return err
			}
			return f(tx)
		})
		if code := pg.Code(err); code != pg.LockNotAvailable && code != pg.DeadlockDetected || try == lockTries {
			return err
		}
		a.progress.Waits++
		a.tell()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(time.Second, time.Duration(try)*20*time.Millisecond)):
		}
	}
}

func (a *addition) tell() {
	if a.backfill.Progress != nil {
		a.backfill.Progress(a.progress)
	}
}
