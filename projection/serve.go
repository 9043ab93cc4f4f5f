package projection

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
)

// ErrBehind is returned by [Runner.Serve] for a version that has not come as far as the one that serves.
var ErrBehind = errors.New("the version is behind the one that serves")

// BehindError says what a version has not that the one that serves has.
type BehindError struct {
	Name             string
	Version, Serving int
	// Position that all shards of the version have come to, and the furthest shard of the serving one.
	Position, ServingPosition eventstore.Position
	// ParkedKeys of the version that the serving one has not parked.
	ParkedKeys int
}

func (e *BehindError) Error() string {
	return fmt.Sprintf("projection %s: version %d stands at %d, version %d, which serves, at %d; %d keys are parked that are not of that",
		e.Name, e.Version, e.Position, e.Serving, e.ServingPosition, e.ParkedKeys)
}

// Is reports ErrBehind.
func (e *BehindError) Is(target error) bool { return target == ErrBehind }

const serveTries = 300

// Serve lets the views of a projection's tables show the version that this runner has, all of them at once. Rights to the views
// are kept, comments are the tables'. A view of a table that the version does not have any more is left as it is.
//
// A version that is higher than the serving one must have come as far: errors match [ErrBehind] while one of its shards stands
// behind the furthest of that, or keys are parked of it that are not of that. A lower version is never refused, as it is what
// one goes back to: it serves what it has, so let its runner go on until the new one has proved itself.
//
// It waits for no lock longer than a tenth of a second, as readers would wait behind it; it tries again, with pauses, for some
// minutes. It runs as the owner of the views. A view that others are made of cannot be made anew (SQLSTATE 2BP01): drop those
// first. A reader's prepared SELECT * may fail once (SQLSTATE 0A000). Errors match [ErrNotMigrated] for a version that is not there.
func (r *Runner) Serve(ctx context.Context, name string) error {
	p := r.find(name)
	if p == nil {
		return unknown(name)
	}
	settled, err := r.store.Settled(ctx)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := pg.InTx(ctx, r.pool, func(tx pgx.Tx) error { return r.serve(ctx, tx, p, settled) })
		if err == nil {
			return nil
		}
		if code := pg.Code(err); code != pg.LockNotAvailable && code != pg.DeadlockDetected || try == serveTries {
			return fmt.Errorf("letting version %d of projection %s serve: %w", p.spec.Version, name, explained(err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(time.Second, time.Duration(try)*20*time.Millisecond)):
		}
	}
}

// served is a version as sql/serve_look.sql finds it.
type served struct {
	Version         int
	Inline          bool
	Least, Furthest eventstore.Position
	ParkedKeys      int // of the version that is to serve, and not of this one
}

func (r *Runner) serve(ctx context.Context, tx pgx.Tx, p *projection, settled eventstore.Position) error {
	if _, err := tx.Exec(ctx, r.sql["serve_lock"]); err != nil {
		return err
	}
	if found, err := r.registered(ctx, tx, p); err != nil {
		return err
	} else if found == nil {
		return ErrNotMigrated
	}
	var views []string
	for _, table := range p.spec.Tables {
		views = append(views, r.viewOf(table))
	}
	rows, err := tx.Query(ctx, r.sql["serve_look"], p.spec.Name, p.spec.Version, views)
	if err != nil {
		return err
	}
	versions, err := pgx.CollectRows(rows, pgx.RowToStructByPos[served])
	if err != nil {
		return err
	}
	if err := p.notBehind(versions, settled); err != nil {
		return err
	}
	for _, table := range p.spec.Tables {
		if err := r.show(ctx, tx, table, p.tables[table.Name]); err != nil {
			return fmt.Errorf("view %s: %w", table.Name, err)
		}
	}
	return nil
}

// notBehind compares the version with the lower ones that serve.
func (p *projection) notBehind(versions []served, settled eventstore.Position) error {
	least := settled
	for _, v := range versions {
		if v.Version == p.spec.Version && !v.Inline { // an inline one is never behind; its checkpoint stands where that began
			least = v.Least
		}
	}
	for _, v := range versions {
		furthest := v.Furthest
		if v.Inline {
			furthest = settled
		}
		if v.Version < p.spec.Version && (least < furthest || v.ParkedKeys > 0) {
			return &BehindError{p.spec.Name, p.spec.Version, v.Version, least, furthest, v.ParkedKeys}
		}
	}
	return nil
}

func (r *Runner) viewOf(table Table) string {
	return pgx.Identifier{r.store.Schema(), table.Name}.Sanitize()
}

// show makes the view of a table, anew where there is one, as its columns may be others.
func (r *Runner) show(ctx context.Context, tx pgx.Tx, table Table, physical string) error {
	view := r.viewOf(table)
	statements := []string{`DROP VIEW IF EXISTS ` + view, `CREATE VIEW ` + view + ` AS SELECT * FROM ` + physical}
	for _, from := range []string{view, physical} { // what the table says comes last, and holds
		rows, err := tx.Query(ctx, r.sql["view_keeps"], from, view, physical)
		if err != nil {
			return err
		}
		kept, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		statements = append(statements, kept...)
	}
	_, err := tx.Exec(ctx, strings.Join(statements, ";\n"))
	return err
}
