package analytics

import (
	"context"
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
	Step   string // add, fill, hold (to the constraints) or show (in the view)
	Filled int64  // rows of all tables, by this call
	Waits  int    // tries that found a table locked
}

// AddColumn adds a column that is declared, an [Attribute] or a column of one of Config.Facts, to tables in use, while readers
// and the projection go on. Call it before the code that declares the column is deployed, under the same Version.
//
//  1. The column is added, nullable, with its DEFAULT for new rows.
//  2. Rows that have none are filled, 1,000 a transaction.
//  3. Its NOT NULL and CHECKs are added as NOT VALID, and validated, which blocks nobody.
//  4. The view, a SELECT * of the columns of its day, is made anew. A reader's prepared SELECT * fails once (SQLSTATE 0A000),
//     one that names its columns does not.
//
// No statement waits for a lock longer than a tenth of a second, as everybody else would wait behind it: it tries again, with
// pauses, for some minutes. After an error, or a kill, call it again: it goes on where it was.
//
// A NOT NULL needs a DEFAULT: the code in use does not write the column. An attribute of [Personas] is added to their history,
// too. A column that refers to a dimension, or is to have an Index, needs another Version. Errors match
// [eventstore.ErrInvalid] for what cannot be.
func (s *Star) AddColumn(ctx context.Context, table, column string, backfill Backfill) error {
	declared, ok := s.declared(table, column)
	fail := func(reason string) error {
		return &eventstore.InvalidError{Index: -1, Field: "column " + table + "." + column, Reason: reason}
	}
	switch {
	case !ok:
		return fail("is none of Config.Attributes, nor of the columns of Config.Facts")
	case declared.Of != "" || declared.Index:
		return fail("refers to a dimension or has an Index, which need another Version")
	}
	a := &addition{star: s, column: declared, backfill: backfill}
	err := a.read(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("adding column %s to %s: %w", column, table, err)
	case !a.plain:
		return fail("is generated, or is a key, which needs another Version")
	case a.notNull && a.standard == "":
		return fail("is NOT NULL without a DEFAULT")
	}
	tables := []string{table}
	if table == string(Personas) {
		tables = append(tables, dimPersonaHistory)
	}
	for _, name := range tables {
		a.progress.Table = name
		for _, step := range []func(context.Context) error{a.add, a.fill, a.hold, a.show} {
			if err := step(ctx); err != nil {
				return fmt.Errorf("adding column %s to %s: %s: %w", column, name, a.progress.Step, err)
			}
		}
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
	column   Column
	backfill Backfill
	progress AddProgress

	// What the column's Type says.
	dataType, standard string
	notNull, plain     bool
	checks             []string
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

func (a *addition) fill(ctx context.Context) error {
	a.progress.Step = "fill"
	if a.value() == "NULL" {
		return nil
	}
	sql, err := sqlOf("alter_leaves")
	if err != nil {
		return err
	}
	rows, err := a.star.store.Pool().Query(ctx, sql, a.table())
	if err != nil {
		return err
	}
	leaves, err := pgx.CollectRows(rows, pgx.RowToStructByPos[leaf])
	if err != nil {
		return err
	}
	for _, l := range leaves {
		if err := a.fillLeaf(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// fillLeaf goes along the primary key. Rows that are filled are passed over, so that it can begin again at any time.
func (a *addition) fillLeaf(ctx context.Context, l leaf) error {
	key, texts, bound := strings.Join(l.Key, ", "), make([]string, len(l.Key)), make([]string, len(l.Key))
	for i, column := range l.Key {
		texts[i], bound[i] = column+"::text", fmt.Sprintf("$1::text[])[%d]::%s", i+1, l.Types[i])
	}
	row := func(parameter string) string {
		return "((" + strings.ReplaceAll(strings.Join(bound, ", ("), "$1", parameter) + ")"
	}
	next := fmt.Sprintf(`SELECT ARRAY[%s] FROM (SELECT %s FROM %s WHERE %s IS NULL AND ($1::text[] IS NULL OR (%s) > %s) ORDER BY %s LIMIT %d) AS page ORDER BY %s DESC LIMIT 1`,
		strings.Join(texts, ", "), key, l.Name, a.column.Name, key, row("$1"), key, fillBatch, strings.Join(l.Key, " DESC, "))
	update := fmt.Sprintf(`UPDATE %s SET %s = (%s) WHERE %s IS NULL AND ($1::text[] IS NULL OR (%s) > %s) AND (%s) <= %s`,
		l.Name, a.column.Name, a.value(), a.column.Name, key, row("$1"), key, row("$2"))
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
	checks := map[string]string{}
	for i, check := range a.checks {
		checks[fmt.Sprintf("%s_check%d", a.column.Name, i+1)] = check
	}
	held := a.column.Name + "_not_null"
	if a.notNull {
		checks[held] = "CHECK (" + a.column.Name + " IS NOT NULL)"
	}
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		var there bool
		err := a.star.store.Pool().QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = $1::text::regclass AND conname = $2::text)`, a.table(), name).Scan(&there)
		if err == nil && !there {
			err = a.patiently(ctx, fmt.Sprintf(`ALTER TABLE %s ADD CONSTRAINT %s %s NOT VALID`, a.table(), name, checks[name]))
		}
		if err == nil {
			err = a.patiently(ctx, fmt.Sprintf(`ALTER TABLE %s VALIDATE CONSTRAINT %s`, a.table(), name))
		}
		if err != nil {
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
	return a.patiently(ctx, `CREATE OR REPLACE VIEW `+view+` AS SELECT * FROM `+a.table())
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
