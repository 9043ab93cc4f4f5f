package projection

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
)

// Pause halts a projection, wherever it runs. When it returns, nothing of it is being written any more.
func (r *Runner) Pause(ctx context.Context, name, reason string) error {
	return r.control(ctx, name, func(tx pgx.Tx, p *projection) error {
		if err := r.takeOff(ctx, tx, p); err != nil {
			return err
		}
		return r.setState(ctx, tx, p, Paused, reason)
	})
}

// takeOff takes the projection from whoever works on it, workers and appends. It comes first: like a worker that stops its
// projection, it locks the checkpoints before the projection's row, so that neither waits for the other for ever.
func (r *Runner) takeOff(ctx context.Context, tx pgx.Tx, p *projection) error {
	if _, err := tx.Exec(ctx, r.sql["fence_off"], p.spec.Name, p.spec.Version); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, r.sql["inline_off"], p.spec.Name, p.spec.Version)
	return err
}

// Resume lets a projection that is paused or stopped go on.
func (r *Runner) Resume(ctx context.Context, name string) error {
	return r.control(ctx, name, func(tx pgx.Tx, p *projection) error {
		return r.setState(ctx, tx, p, Running, "")
	})
}

// Reset empties a projection's tables and puts it back to the start of the log, from where it builds them again. What was
// parked or skipped is forgotten. A projection that was running goes on at once.
func (r *Runner) Reset(ctx context.Context, name string) error {
	return r.control(ctx, name, func(tx pgx.Tx, p *projection) error {
		if err := r.takeOff(ctx, tx, p); err != nil {
			return err
		}
		if tables := p.tableNames(); len(tables) > 0 {
			if _, err := tx.Exec(ctx, `TRUNCATE `+strings.Join(tables, ", ")); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, r.sql["reset"], p.spec.Name, p.spec.Version)
		return err
	})
}

// Retry tries a key's parked events again now, or, with an empty key, all that are parked, however often they have failed.
func (r *Runner) Retry(ctx context.Context, name, key string) error {
	return r.control(ctx, name, func(tx pgx.Tx, p *projection) error {
		var only *string
		if key != "" {
			only = &key
		}
		tag, err := tx.Exec(ctx, r.sql["retry"], name, p.spec.Version, only)
		if err == nil && tag.RowsAffected() == 0 {
			return ErrNotParked
		}
		return err
	})
}

// Skip leaves a parked event out, for a reason that stays on record; those that wait behind it then go on. Only the first of a
// key can be skipped. The worker that has the shard does it, soon.
func (r *Runner) Skip(ctx context.Context, name string, at eventstore.Position, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return &eventstore.InvalidError{Index: -1, Field: "reason", Reason: "is empty"}
	}
	return r.control(ctx, name, func(tx pgx.Tx, p *projection) error {
		tag, err := tx.Exec(ctx, r.sql["skip"], name, p.spec.Version, position(at), reason)
		if err == nil && tag.RowsAffected() == 0 {
			return ErrNotParked
		}
		return err
	})
}

// control runs f in a transaction that waits for no lock longer than a batch may take.
func (r *Runner) control(ctx context.Context, name string, f func(tx pgx.Tx, p *projection) error) error {
	p := r.find(name)
	if p == nil {
		return unknown(name)
	}
	err := pg.InTx(ctx, r.pool, func(tx pgx.Tx) error {
		timeout := strconv.FormatInt(2*r.config.Lease.Milliseconds(), 10)
		if p.spec.Inline { // no append is in flight, and the next ones see what is done here
			if _, err := tx.Exec(ctx, r.sql["inline_alone"], timeout, strconv.FormatInt(r.config.Lease.Milliseconds(), 10)); err != nil {
				return err
			}
		} else if _, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', $1::text, true)`, timeout); err != nil {
			return err
		}
		return f(tx, p)
	})
	if err != nil {
		return fmt.Errorf("projection %s: %w", name, explained(err))
	}
	return nil
}

func (r *Runner) setState(ctx context.Context, tx pgx.Tx, p *projection, state State, reason string) error {
	tag, err := tx.Exec(ctx, r.sql["stop"], p.spec.Name, p.spec.Version, string(state), reason)
	if err == nil && tag.RowsAffected() == 0 {
		return ErrNotMigrated
	}
	return err
}
