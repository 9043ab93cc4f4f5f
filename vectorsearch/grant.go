package vectorsearch

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
	"github.com/sight-platform/hindsight/projection"
)

// Grant gives an existing role what indexing and searching need beside [projection.Runner.Grant], after which it comes; Maintain
// stays the owner's. Errors match [eventstore.ErrNotAllowed], [projection.ErrNotMigrated] and [eventstore.ErrInvalid].
func (x *Index) Grant(ctx context.Context, role string) error {
	if _, err := eventstore.Grants(x.store.Schema(), role, eventstore.Reader); err != nil { // it checks the name
		return err
	}
	quoted := pgx.Identifier{role}.Sanitize()
	err := pg.InTx(ctx, x.store.Pool(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, x.sql(`GRANT EXECUTE ON FUNCTION {{ensure_month}}(date) TO `)+quoted+x.sql(`; GRANT SELECT ON {{source}} TO `)+quoted+x.sql(`; GRANT SELECT, INSERT ON {{costs}} TO `)+quoted); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, x.sql(`SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent IN ('{{passages}}'::regclass, '{{vectors}}'::regclass)`))
		if err != nil {
			return err
		}
		leaves, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, leaf := range leaves { // searches read them themselves
			if _, err := tx.Exec(ctx, `GRANT SELECT ON `+leaf+` TO `+quoted); err != nil {
				return err
			}
		}
		return err
	})
	switch pg.Code(err) {
	case pg.InsufficientPrivilege:
		err = fmt.Errorf("%w: %w", eventstore.ErrNotAllowed, err)
	case pg.UndefinedFunction, pg.UndefinedTable:
		err = fmt.Errorf("%s: %w", x.config.Name, projection.ErrNotMigrated)
	}
	return err
}
