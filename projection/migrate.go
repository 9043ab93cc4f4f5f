package projection

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
)

// Migrate makes what the projections need and is not there: the tables of this package, those of each projection's version,
// and a place at the start of the log. Any number of processes may run it at once. Errors match [ErrShards] where a number of
// shards was changed that cannot be now.
func (r *Runner) Migrate(ctx context.Context) error {
	line, err := schemaLine()
	if err != nil {
		return err
	}
	if err := r.store.CheckSchema(ctx); err != nil {
		return err
	}
	have, err := line.Current(ctx, r.pool, r.store.Schema())
	if err != nil {
		return fmt.Errorf("checking schema %s: %w", r.store.Schema(), err)
	}
	if have < line.Version() { // a role without the right to create tables can run where there is nothing to create
		if err := line.Run(ctx, r.pool, r.store.Schema()); err != nil {
			return err
		}
	}
	for _, p := range r.projections {
		if err := r.register(ctx, p); err != nil {
			return fmt.Errorf("registering projection %s: %w", p.spec.Name, allowed(err))
		}
	}
	return nil
}

// Migrations returns the steps of this package's tables, for a program that runs migrations with a tool of its own, after
// those of [eventstore.Migrations] for the same schema. The tables of projections are made by [Runner.Migrate] all the same.
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

// registration is what the database knows of a projection; nil: nothing.
type registration struct {
	Shards int
	Tables []string
	Inline bool
}

func (r *Runner) registered(ctx context.Context, db pg.DB, p *projection) (*registration, error) {
	rows, err := db.Query(ctx, r.sql["registered"], p.spec.Name, p.spec.Version)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[registration])
	if err != nil || len(found) == 0 {
		return nil, err
	}
	want := p.tableNames()
	if slices.Sort(found[0].Tables); !slices.Equal(found[0].Tables, want) {
		return nil, &eventstore.InvalidError{Index: -1, Field: "Spec.Tables", Reason: fmt.Sprintf(
			"of %s name %v, version %d was made with %v: other tables need another Version", p.spec.Name, want, p.spec.Version, found[0].Tables)}
	}
	return found[0], nil
}

func (p *projection) tableNames() []string {
	return append([]string{}, slices.Sorted(maps.Values(p.tables))...) // not nil: the column is NOT NULL
}

// fits says that there is nothing to do.
func (g *registration) fits(p *projection) bool {
	return g != nil && g.Shards == p.spec.Shards && (p.spec.Inline || !g.Inline)
}

// register makes a projection's rows and tables in one transaction, or finds them there.
func (r *Runner) register(ctx context.Context, p *projection) error {
	found, err := r.registered(ctx, r.pool, p)
	if err != nil || found.fits(p) {
		return err
	}
	return pg.InTx(ctx, r.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, r.sql["register_lock"]); err != nil {
			return err
		}
		found, err := r.registered(ctx, tx, p)
		switch {
		case err != nil || found.fits(p): // by another process meanwhile
			return err
		case found == nil:
			return r.create(ctx, tx, p)
		case found.Inline && !p.spec.Inline: // from now on its workers do what the appends did
			lease := strconv.FormatInt(r.config.Lease.Milliseconds(), 10)
			if _, err := tx.Exec(ctx, r.sql["inline_alone"], lease, lease); err != nil {
				return err
			}
			if err := r.takeOff(ctx, tx, p); err != nil {
				return err
			}
		}
		if found.Shards == p.spec.Shards {
			return nil
		}
		return r.reshard(ctx, tx, p)
	})
}

func (r *Runner) create(ctx context.Context, tx pgx.Tx, p *projection) error {
	for _, table := range p.spec.Tables {
		name := p.tables[table.Name]
		if _, err := tx.Exec(ctx, fillTable(table.SQL, name)); err != nil {
			return fmt.Errorf("creating table %s: %w", table.Name, err)
		}
		var taken bool
		if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, r.viewOf(table)).Scan(&taken); err != nil {
			return err
		}
		if taken { // another version serves, until Serve
			continue
		}
		if err := r.show(ctx, tx, table, name); err != nil {
			return fmt.Errorf("creating view %s: %w", table.Name, err)
		}
	}
	_, err := tx.Exec(ctx, r.sql["register"], p.spec.Name, p.spec.Version, p.spec.Shards, p.tableNames())
	return err
}

// reshard deals the keys out anew, which is right only where every shard has done the same part of the log.
func (r *Runner) reshard(ctx context.Context, tx pgx.Tx, p *projection) error {
	rows, err := tx.Query(ctx, r.sql["reshard_look"], p.spec.Name, p.spec.Version)
	if err != nil {
		return err
	}
	type shard struct {
		Position int64
		Parked   int64
	}
	shards, err := pgx.CollectRows(rows, pgx.RowToStructByPos[shard])
	if err != nil {
		return err
	}
	if slices.ContainsFunc(shards, func(s shard) bool { return s.Position != shards[0].Position || s.Parked > 0 }) {
		return fmt.Errorf("%w: from %d to %d, as they stand at different positions or have parked events; try again when they do not, or reset the projection",
			ErrShards, len(shards), p.spec.Shards)
	}
	_, err = tx.Exec(ctx, r.sql["reshard"], p.spec.Name, p.spec.Version, p.spec.Shards, position(eventstore.Position(shards[0].Position)))
	return err
}

func fillTable(sql, table string) string { return strings.ReplaceAll(sql, "{{table}}", table) }
