package projection

import (
	"context"
	"errors"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
)

// applyAll applies events in one transaction. If that fails by the events' own fault, it halves them until it has the one
// that is to blame, and parks it.
func (w *worker) applyAll(ctx context.Context, events []eventstore.Recorded, upTo eventstore.Position) error {
	started := time.Now()
	err := w.apply(ctx, events, upTo)
	w.tellBatch(events, started, err)
	var poison *poisonError
	switch {
	case err == nil:
		w.adapt(len(events), time.Since(started))
		return nil
	case !errors.As(err, &poison):
		return err
	case len(events) == 1:
		return w.park(ctx, events[0], poison.err, upTo)
	}
	half := len(events) / 2
	if err := w.applyAll(ctx, events[:half], events[half-1].Position); err != nil {
		return err
	}
	return w.applyAll(ctx, events[half:], upTo)
}

// adapt makes the next batch larger while batches are quick, and smaller where transactions take long beside the lease. What
// Prepare takes is no reason for that: a service with a rate limit is served best by few large calls.
func (w *worker) adapt(events int, took time.Duration) {
	switch {
	case w.wrote > w.config.Lease/4:
		w.size = max(1, w.size/2)
	case events >= w.size && took < w.config.Lease/10:
		w.size = min(2*w.size, w.config.MaxBatch)
	}
}

// apply runs Prepare, and Apply in a transaction that also moves the checkpoint. Events of parked keys queue up behind.
func (w *worker) apply(ctx context.Context, events []eventstore.Recorded, upTo eventstore.Position) error {
	var queued []eventstore.Recorded
	ready := make([]eventstore.Recorded, 0, len(events))
	for _, e := range events {
		if len(w.parked) > 0 && w.parked[w.p.spec.Key(e)] {
			queued = append(queued, e)
			continue
		}
		var decoded eventstore.Recorded
		if err := guarded(func() (err error) { decoded, err = w.store.Decode(ctx, e); return err }); err != nil {
			return &poisonError{err}
		}
		ready = append(ready, decoded)
	}
	batch, err := w.prepare(ctx, ready)
	if err != nil {
		return err
	}
	began := time.Now()
	defer func() { w.wrote = time.Since(began) }()
	return w.transaction(ctx, upTo, func(tx pgx.Tx) error {
		if len(queued) > 0 {
			if err := w.insertParked(ctx, tx, queued, nil); err != nil {
				return err
			}
		}
		if len(ready) == 0 {
			return nil
		}
		return w.callApply(ctx, tx, batch)
	})
}

func (w *worker) prepare(ctx context.Context, events []eventstore.Recorded) (*Batch, error) {
	batch := &Batch{Projection: w.p.spec.Name, Version: w.p.spec.Version, Shard: w.lease.Shard, Events: events, tables: w.p.tables, identifiers: w.p.identifiers}
	preparer, ok := w.p.Projection.(Preparer)
	if !ok || len(events) == 0 {
		return batch, nil
	}
	if err := guarded(func() error { return preparer.Prepare(ctx, batch) }); err != nil {
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case transient(err):
			return nil, err
		}
		return nil, &poisonError{err}
	}
	return batch, nil
}

// callApply tells an error of the events from one of the database that passes.
func (w *worker) callApply(ctx context.Context, tx pgx.Tx, batch *Batch) error {
	err := guarded(func() error { return w.p.Apply(ctx, tx, batch) })
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case transient(err), tx.Conn().IsClosed():
		return err
	}
	return &poisonError{err}
}

// guarded makes a panic of the user's code an error: it must not take the other projections down.
func guarded(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: string(debug.Stack())}
		}
	}()
	return f()
}

// transaction runs f and moves the checkpoint, under its lock. It fails with errLost if the shard is not this worker's any
// more, or does not stand where this worker left it.
func (w *worker) transaction(ctx context.Context, upTo eventstore.Position, f func(tx pgx.Tx) error) error {
	conn, err := w.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if err := w.lock(ctx, tx); err != nil || f == nil && upTo == w.stored {
			return err
		}
		if f != nil {
			if err := f(tx); err != nil {
				return err
			}
		}
		if upTo == w.stored { // a parked event: the checkpoint is past it
			return nil
		}
		_, err := tx.Exec(ctx, w.sql["advance_checkpoint"], w.p.spec.Name, w.p.spec.Version, w.lease.Shard, position(upTo))
		return err
	})
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if f != nil && failedLate(err) {
			return &poisonError{err}
		}
		return err
	}
	w.stored, w.cursor, w.noted = upTo, max(w.cursor, upTo), time.Now()
	w.progress.tell()
	return nil
}

// failedLate says that Apply broke a deferred constraint, which shows at the commit, or went on after a failed statement.
func failedLate(err error) bool {
	code := pg.Code(err)
	return strings.HasPrefix(code, "23") || code == "25P02" || errors.Is(err, pgx.ErrTxCommitRollback)
}

// lock takes the checkpoint's row, to the end of the transaction, where the epoch and the position are this worker's: a
// compare-and-set. It limits how long a paused worker can keep it.
func (w *worker) lock(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, w.sql["lock_checkpoint"], w.p.spec.Name, w.p.spec.Version, w.lease.Shard, w.lease.Epoch,
		position(w.stored), strconv.FormatInt(w.config.Lease.Milliseconds(), 10))
	if err != nil {
		return err
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) { return struct{}{}, nil })
	if err == nil && len(found) == 0 {
		err = errLost
	}
	return err
}

func (w *worker) tellBatch(events []eventstore.Recorded, started time.Time, err error) {
	hook := w.config.Hooks.Batch
	if hook == nil {
		return
	}
	info := BatchInfo{
		Projection: w.p.spec.Name, Version: w.p.spec.Version, Shard: w.lease.Shard,
		Events: len(events), Position: w.stored, Duration: time.Since(started), Err: err,
	}
	if n := len(events); n > 0 {
		info.RecordedAt = events[n-1].RecordedAt
	}
	hook(info)
}
