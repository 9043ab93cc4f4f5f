package analytics

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
	"github.com/sight-platform/hindsight/projection"
)

// Grant gives a worker's role, after [projection.Runner.Grant], the right to have the months of the star's facts made: it then
// runs the star, and [Star.Refresh] and [Star.Check]. [Star.AddColumn] is the owner's.
//
// It needs a store that connects as the owner of the tables (the role that ran Migrate) or as a superuser. Errors match
// [eventstore.ErrNotAllowed] for another role's, [projection.ErrNotMigrated], and [eventstore.ErrInvalid] for a name that breaks
// the limits of [eventstore.Grants]. Nothing has then changed.
func (s *Star) Grant(ctx context.Context, role string) error {
	return s.grant(ctx, role, "a worker", `GRANT EXECUTE ON FUNCTION `+s.monthFunction()+` TO `)
}

// GrantReader gives a role the right to read the star, by itself or with [Open], and nothing of the log but how far projections
// have come. It comes again after another Version is made. It needs what Grant needs.
func (s *Star) GrantReader(ctx context.Context, role string) error {
	schema := s.store.Schema()
	statements := []string{`GRANT USAGE ON SCHEMA ` + string(pg.QuoteSchema(schema)) + ` TO `, `GRANT SELECT ON ` + quote(schema, "checkpoints") + ` TO `}
	for _, table := range s.Spec().Tables {
		statements = append(statements, `GRANT SELECT ON `+s.table(table.Name)+`, `+quote(schema, table.Name)+` TO `)
	}
	return s.grant(ctx, role, "a reader", statements...)
}

// grant runs statements that end with the role.
func (s *Star) grant(ctx context.Context, role, what string, statements ...string) error {
	_, err := eventstore.Grants(s.store.Schema(), role, eventstore.Reader) // it checks the name
	if err == nil {
		err = pg.InTx(ctx, s.store.Pool(), func(tx pgx.Tx) error {
			var there, mine bool // GRANT itself might only warn
			err := tx.QueryRow(ctx, `
SELECT count(*) > 0, coalesce(bool_and(pg_has_role(proowner, 'USAGE')), false) FROM pg_proc WHERE oid = to_regproc($1::text)`, s.monthFunction()).Scan(&there, &mine)
			switch {
			case err != nil:
				return err
			case !there:
				return projection.ErrNotMigrated
			case !mine:
				return fmt.Errorf("%w: the star belongs to another role", eventstore.ErrNotAllowed)
			}
			for _, statement := range statements {
				if _, err := tx.Exec(ctx, statement+pgx.Identifier{role}.Sanitize()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if pg.Code(err) == pg.InsufficientPrivilege {
		err = fmt.Errorf("%w: %w", eventstore.ErrNotAllowed, err)
	}
	if err != nil {
		return fmt.Errorf("granting %s the rights of %s: %w", role, what, err)
	}
	return nil
}
