package snapshot

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/migrate"
	"github.com/sight-platform/hindsight/internal/pg"
)

// ErrNotMigrated is returned where this package's tables are not there.
var ErrNotMigrated = errors.New("the tables of snapshots are not there: call snapshot.Migrate first")

//go:embed schema/*.sql
var schemaFiles embed.FS

func schemaLine() (*migrate.Line, error) { return migrate.Parse("snapshot", schemaFiles) }

// Migrate makes this package's tables in the log's schema, or brings them up to date; the log's own come first. Any number of
// processes may run it at once.
func Migrate(ctx context.Context, store *eventstore.Store) error {
	if store.Pool() == nil {
		return eventstore.ErrNoPool
	}
	line, err := schemaLine()
	if err != nil {
		return err
	}
	if err := store.CheckSchema(ctx); err != nil {
		return err
	}
	return line.Run(ctx, store.Pool(), store.Schema())
}

// Migrations returns the steps that [Migrate] runs, for a program that runs migrations with a tool of its own, after those of
// [eventstore.Migrations] for the same schema.
func Migrations(schema string) ([]eventstore.Migration, error) {
	if _, err := eventstore.Migrations(schema); err != nil { // it checks the name
		return nil, err
	}
	if schema == "" {
		schema = eventstore.DefaultSchema
	}
	line, err := schemaLine()
	if err != nil {
		return nil, err
	}
	var out []eventstore.Migration
	for _, step := range line.Export(schema) {
		out = append(out, eventstore.Migration(step))
	}
	return out, nil
}

// Grant gives an existing role what a [Loader] needs, beside the rights of an [eventstore.Reader] or Appender. It needs a store
// that connects as the owner of the tables (the role that ran Migrate) or as a superuser. Errors match
// [eventstore.ErrNotAllowed] for another role's, [ErrNotMigrated], and [eventstore.ErrInvalid] for a name that breaks the
// limits of [eventstore.Grants]. Nothing has then changed.
func Grant(ctx context.Context, store *eventstore.Store, role string) error {
	if store.Pool() == nil {
		return eventstore.ErrNoPool
	}
	_, err := eventstore.Grants(store.Schema(), role, eventstore.Reader) // it checks the name
	if err == nil {
		var sql queries
		if sql, err = newQueries(pg.QuoteSchema(store.Schema())); err != nil {
			return err
		}
		_, err = store.Pool().Exec(ctx, strings.ReplaceAll(sql["grant"], "{{role}}", pgx.Identifier{role}.Sanitize()))
	}
	if err != nil {
		return fmt.Errorf("granting %s the rights of a loader: %w", role, explained(err))
	}
	return nil
}

// explained names what is missing: a table, or a right.
func explained(err error) error {
	switch pg.Code(err) {
	case pg.UndefinedTable, pg.UndefinedFunction:
		return fmt.Errorf("%w: %w", ErrNotMigrated, err)
	case pg.InsufficientPrivilege:
		return fmt.Errorf("%w: %w", eventstore.ErrNotAllowed, err)
	}
	return err
}
