package projection

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
)

// Grant gives an existing role what Run, CatchUp, WaitFor, Status, Parked, Doctor, Pause, Resume, Reset, Retry and Skip need for this
// runner's projections, beside the rights of a Reader; an Appender needs it, too, for appends with an [Inline] projection.
// These are rights to the tables of this package and to checkpoints, to the tables of the projections, their sequences and
// views (what else a [Table]'s SQL makes is not among them), and temporary tables, for [Batch.Upsert].
//
// It comes after [eventstore.Store.Grant], which takes rights to checkpoints away, and again after each one. The role makes
// no tables: where the projections change, [Runner.Migrate] runs as the owner, and then Grant.
//
// It needs a store that connects as the owner of the tables (the role that ran Migrate) or as a superuser. Errors match
// [eventstore.ErrNotAllowed] for another role's, [ErrNotMigrated], and [eventstore.ErrInvalid] for a name that breaks the
// limits of [eventstore.Grants]. Nothing has then changed.
func (r *Runner) Grant(ctx context.Context, role string) error {
	_, err := eventstore.Grants(r.store.Schema(), role, eventstore.Reader) // it checks the name
	if err == nil {
		err = pg.InTx(ctx, r.pool, func(tx pgx.Tx) error { return r.grant(ctx, tx, role) })
	}
	if err != nil {
		return fmt.Errorf("granting %s the rights of a projections' worker: %w", role, explained(err))
	}
	return nil
}

func (r *Runner) grant(ctx context.Context, tx pgx.Tx, role string) error {
	quoted := pgx.Identifier{role}.Sanitize()
	if _, err := tx.Exec(ctx, strings.ReplaceAll(r.sql["grant"], "{{role}}", quoted)); err != nil {
		return err
	}
	for _, p := range r.projections {
		found, err := r.registered(ctx, tx, p)
		switch {
		case err != nil:
			return err
		case found == nil:
			return fmt.Errorf("%s: %w", p.spec.Name, ErrNotMigrated)
		}
		if err := r.grantTables(ctx, tx, p, quoted); err != nil {
			return err
		}
	}
	return nil
}

// grantTables gives the rights to one projection's relations.
func (r *Runner) grantTables(ctx context.Context, tx pgx.Tx, p *projection, role string) error {
	var views []string
	for _, table := range p.spec.Tables {
		views = append(views, pgx.Identifier{r.store.Schema(), table.Name}.Sanitize())
	}
	rows, err := tx.Query(ctx, r.sql["grant_look"], p.tableNames(), views)
	if err != nil {
		return err
	}
	type relation struct {
		Name                 string
		Sequence, View, Mine bool
	}
	relations, err := pgx.CollectRows(rows, pgx.RowToStructByPos[relation])
	if err != nil {
		return err
	}
	for _, found := range relations {
		rights := `SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON `
		switch {
		case !found.Mine: // GRANT itself might only warn
			return fmt.Errorf("%w: %s belongs to another role", eventstore.ErrNotAllowed, found.Name)
		case found.Sequence:
			rights = `USAGE ON SEQUENCE `
		case found.View:
			rights = `SELECT ON `
		}
		if _, err := tx.Exec(ctx, `GRANT `+rights+found.Name+` TO `+role); err != nil {
			return err
		}
	}
	return nil
}
