// Package migrate runs a package's line of migrations: embedded, versioned SQL files in one schema.
//
// Every line (the log, projections, vector search) has versions of its own in the table
// {{schema}}.migrations(line, version). A run takes one advisory lock for the schema and applies all that is missing
// in one transaction: many processes may start at once, one works, the others find nothing to do, and a failure
// leaves the schema as it was.
package migrate

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
)

// lockTimeout bounds the wait for another process's migration and for each lock a migration takes.
const lockTimeout = "30s"

// ErrNotUTF8 is returned for a database whose encoding would change what is stored.
var ErrNotUTF8 = errors.New("the database's encoding is not UTF8")

// Line is a package's migrations.
type Line struct {
	name  string
	steps []Step
}

// Step is one migration: its SQL needs nothing but a connection that may create tables.
type Step struct {
	Version int
	Name    string
	SQL     string
}

// Parse reads a line from files named 0001_what.sql, 0002_... without gaps.
func Parse(name string, files fs.FS) (*Line, error) {
	names, err := fs.Glob(files, "*/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	line := &Line{name: name}
	for i, file := range names {
		number, what, ok := strings.Cut(strings.TrimSuffix(path.Base(file), ".sql"), "_")
		if version, err := strconv.Atoi(number); err != nil || !ok || version != i+1 {
			return nil, fmt.Errorf("migration %s: want a name like %04d_what.sql", file, i+1)
		}
		sql, err := fs.ReadFile(files, file)
		if err != nil {
			return nil, err
		}
		line.steps = append(line.steps, Step{Version: i + 1, Name: what, SQL: string(sql)})
	}
	return line, nil
}

// Version is the newest version of the line.
func (l *Line) Version() int { return len(l.steps) }

// Export is the line as SQL for another migration tool: each step also records itself, so that Run and Current agree
// with it.
func (l *Line) Export(schema string) []Step {
	quoted := pg.QuoteSchema(schema)
	steps := make([]Step, 0, len(l.steps))
	for _, step := range l.steps {
		sql := quoted.SQL(step.SQL)
		if step.Version == 1 {
			sql = quoted.SQL(createSchema) + ";\n" + quoted.SQL(createTable) + ";\n\n" + sql
		}
		record := fmt.Sprintf("INSERT INTO {{schema}}.migrations (line, version, name) VALUES ('%s', %d, '%s');\n", l.name, step.Version, step.Name)
		steps = append(steps, Step{Version: step.Version, Name: step.Name, SQL: sql + "\n" + quoted.SQL(record)})
	}
	return steps
}

const (
	createSchema = `CREATE SCHEMA IF NOT EXISTS {{schema}}`
	createTable  = `CREATE TABLE IF NOT EXISTS {{schema}}.migrations (
    line       text NOT NULL,
    version    integer NOT NULL,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (line, version)
)`
)

// Run brings the schema up to the line's newest version. A schema that is newer already is left alone.
func (l *Line) Run(ctx context.Context, db pg.DB, schema string) error {
	err := pg.InTx(ctx, db, func(tx pgx.Tx) error {
		quoted := pg.QuoteSchema(schema)
		var lockTimeoutBefore string
		if err := tx.QueryRow(ctx, `SELECT current_setting('lock_timeout')`).Scan(&lockTimeoutBefore); err != nil {
			return err
		}
		if err := l.prepare(ctx, tx, schema, quoted); err != nil {
			return err
		}
		version, err := l.Current(ctx, tx, schema)
		if err != nil {
			return err
		}
		for _, step := range l.steps[min(version, len(l.steps)):] {
			if _, err := tx.Exec(ctx, quoted.SQL(step.SQL)); err != nil { // without arguments, pgx sends many statements at once
				return fmt.Errorf("migration %s %04d_%s: %w", l.name, step.Version, step.Name, err)
			}
			if _, err := tx.Exec(ctx, quoted.SQL(`INSERT INTO {{schema}}.migrations (line, version, name) VALUES ($1, $2, $3)`),
				l.name, step.Version, step.Name); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `SELECT set_config('lock_timeout', $1, true)`, lockTimeoutBefore) // a caller's transaction goes on
		return err
	})
	if err != nil {
		return fmt.Errorf("migrating schema %s: %w", schema, err)
	}
	return nil
}

func (l *Line) prepare(ctx context.Context, tx pgx.Tx, schema string, quoted pg.Schema) error {
	var encoding string
	if err := tx.QueryRow(ctx, `SELECT current_setting('server_encoding')`).Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fmt.Errorf("%w: it is %s", ErrNotUTF8, encoding)
	}
	// lock_timeout bounds every wait below, the advisory lock's too. The lock comes before CREATE SCHEMA IF NOT EXISTS,
	// which two processes cannot run at once. {{schema}} is not there yet, so the lock's key is a hash of its name.
	hash := fnv.New64a()
	hash.Write([]byte("hindsight.migrate." + schema))
	if _, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', $1, true)`, lockTimeout); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(hash.Sum64())); err != nil {
		return err
	}
	// The schema may have been made by an administrator for a role that cannot create one.
	var exists bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)`, schema).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		if _, err := tx.Exec(ctx, quoted.SQL(createSchema)); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, quoted.SQL(createTable))
	return err
}

// Current is the line's version in the database, 0 where nothing has run. It never aborts a caller's transaction.
func (l *Line) Current(ctx context.Context, db pg.DB, schema string) (int, error) {
	quoted := pg.QuoteSchema(schema)
	var exists bool
	if err := db.QueryRow(ctx, `SELECT to_regclass($1::text) IS NOT NULL`, quoted.SQL(`{{schema}}.migrations`)).Scan(&exists); err != nil || !exists {
		return 0, err
	}
	var version int
	err := db.QueryRow(ctx, quoted.SQL(`SELECT coalesce(max(version), 0) FROM {{schema}}.migrations WHERE line = $1::text`), l.name).Scan(&version)
	return version, err
}
