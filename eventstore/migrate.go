package eventstore

import (
	"context"
	"embed"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/migrate"
	"github.com/sight-platform/hindsight/internal/pg"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

func schemaLine() (*migrate.Line, error) { return migrate.Parse("eventstore", schemaFiles) }

// Migrate creates the log's tables or brings them up to date. Any number of processes may run it at once; it needs the
// right to create tables (and the schema, if it is not there). A database that is not UTF-8 is refused with
// [ErrNotUTF8]. A schema newer than this program is left alone. Inside a transaction it commits with it.
func (s *Store) Migrate(ctx context.Context) error {
	line, err := schemaLine()
	if err != nil {
		return err
	}
	return line.Run(ctx, s.db, s.config.Schema)
}

// Migration is one step of the log's schema, for a program that runs migrations with a tool of its own.
type Migration struct {
	Version int
	Name    string
	SQL     string // plain statements, function bodies quoted with $$
}

// Migrations returns the same steps that [Store.Migrate] runs, for a schema of this name ("" for [DefaultSchema]). Each
// also records itself, so that Migrate and CheckSchema agree with the tool that ran it.
func Migrations(schema string) ([]Migration, error) {
	if schema == "" {
		schema = DefaultSchema
	}
	if err := checkSchemaName(schema); err != nil {
		return nil, err
	}
	line, err := schemaLine()
	if err != nil {
		return nil, err
	}
	var out []Migration
	for _, step := range line.Export(schema) {
		out = append(out, Migration(step))
	}
	return out, nil
}

// CheckSchema tells a service at start-up whether the log is one it understands; it creates nothing and needs only the
// right to read. Errors match [ErrSchemaMissing], [ErrSchemaOlder], [ErrSchemaNewer], or [ErrSequence] where the
// sequence of positions was altered so that the order of the log would break.
func (s *Store) CheckSchema(ctx context.Context) error {
	line, err := schemaLine()
	if err != nil {
		return err
	}
	have, err := line.Current(ctx, s.db, s.config.Schema)
	if err != nil {
		return fmt.Errorf("checking schema %s: %w", s.config.Schema, err)
	}
	if fault := compareSchema(s.config.Schema, have, line.Version()); fault != nil {
		return fault
	}
	var cache, last, highest int64
	if err := s.db.QueryRow(ctx, s.sql.checkSchema).Scan(&cache, &last, &highest); err != nil {
		return fmt.Errorf("checking schema %s: %w", s.config.Schema, err)
	}
	if cache != 1 {
		return fmt.Errorf("%w: its cache is %d, it must be 1", ErrSequence, cache)
	}
	if last < highest {
		return fmt.Errorf("%w: it stands at %d, behind the last event at position %d", ErrSequence, last, highest)
	}
	return nil
}

// compareSchema returns an error unless both versions agree.
func compareSchema(schema string, have, want int) error {
	fault := &SchemaError{Schema: schema, Have: have, Want: want}
	switch {
	case have == want:
		return nil
	case have == 0:
		fault.Kind = ErrSchemaMissing
	case have < want:
		fault.Kind = ErrSchemaOlder
	default:
		fault.Kind = ErrSchemaNewer
	}
	return fault
}

// Health is the state of a log at a moment.
type Health struct {
	Reachable     bool
	SchemaVersion int       // 0: no log in the schema
	MonthReady    bool      // the current month has its partition
	MonthAhead    bool      // the next month has its partition too
	Settled       Position  // readers may go this far now; see [Store.Settled]
	Last          Position  // the last position taken; Last - Settled is what slow appends hold back
	ServerTime    time.Time // the database's clock, UTC
}

// Health reports the state of the log, for a health endpoint. It returns what it could learn even with an error. A
// missing month ahead is no error: the first append of the month makes it, once, at the cost of some milliseconds.
func (s *Store) Health(ctx context.Context) (Health, error) {
	var h Health
	line, err := schemaLine()
	if err != nil {
		return h, err
	}
	if h.SchemaVersion, err = line.Current(ctx, s.db, s.config.Schema); err != nil {
		return h, fmt.Errorf("reaching the log: %w", err)
	}
	h.Reachable = true
	if h.SchemaVersion == 0 {
		return h, compareSchema(s.config.Schema, 0, line.Version())
	}
	err = pg.InTx(ctx, s.db, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, s.sql.health).
			Scan((*int64)(&h.Settled), (*int64)(&h.Last), &h.MonthReady, &h.MonthAhead, &h.ServerTime)
	})
	if err != nil {
		return h, fmt.Errorf("reading the log's health: %w", err)
	}
	h.ServerTime = h.ServerTime.UTC()
	return h, nil
}
