package projection

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
)

// parking describes why an event is parked; nil: it waits behind another.
type parking struct {
	attempts int
	err      string
	retryIn  *int64 // microseconds; nil: not by itself
}

const maxErrorBytes = 4000

// errorText is what is kept of an error: PostgreSQL takes no zero bytes and no invalid UTF-8.
func errorText(err error) string {
	text := []byte(err.Error())
	var stack *PanicError
	if errors.As(err, &stack) {
		text = append(text, "\n"+stack.Stack...)
	}
	out := make([]rune, 0, len(text))
	for _, r := range string(text[:min(len(text), maxErrorBytes)]) {
		if r != 0 && r != utf8.RuneError {
			out = append(out, r)
		}
	}
	return string(out)
}

// insertParked parks events, in the transaction that moves the checkpoint past them.
func (w *worker) insertParked(ctx context.Context, tx pgx.Tx, events []eventstore.Recorded, why *parking) error {
	keys, streams := make([]string, len(events)), make([]string, len(events))
	positions, versions := make([]int64, len(events)), make([]int64, len(events))
	for i, e := range events {
		keys[i], streams[i], positions[i], versions[i] = w.p.spec.Key(e), string(e.StreamID), position(e.Position), int64(e.Version)
	}
	if why == nil {
		why = &parking{}
	}
	_, err := tx.Exec(ctx, w.sql["park"], w.p.spec.Name, w.p.spec.Version, w.lease.Shard, keys, positions, streams, versions,
		why.attempts, why.err, why.retryIn)
	if err != nil {
		return fmt.Errorf("parking: %w", err)
	}
	return nil
}

// retryIn is the pause before a parked event is tried again, after so many attempts; nil after the last.
func (w *worker) retryIn(attempts int) *int64 {
	if attempts > w.config.Retries {
		return nil
	}
	pause := w.config.RetryAfter.Microseconds() << min(attempts-1, 20)
	return &pause
}

// park puts an event aside with its key; the checkpoint passes it. Too many parked keys stop the projection instead.
func (w *worker) park(ctx context.Context, event eventstore.Recorded, cause error, upTo eventstore.Position) error {
	key := w.p.spec.Key(event)
	stop := ""
	err := w.transaction(ctx, upTo, func(tx pgx.Tx) error {
		if err := w.insertParked(ctx, tx, []eventstore.Recorded{event}, &parking{1, errorText(cause), w.retryIn(1)}); err != nil {
			return err
		}
		var keys int
		if err := tx.QueryRow(ctx, w.sql["count_parked"], w.p.spec.Name, w.p.spec.Version).Scan(&keys); err != nil {
			return err
		}
		if keys <= w.p.spec.MaxParkedKeys {
			return nil
		}
		stop = fmt.Sprintf("%d keys are parked, %d are allowed; the last is %q, at position %d: %s", keys, w.p.spec.MaxParkedKeys, key, event.Position, errorText(cause))
		_, err := tx.Exec(ctx, w.sql["stop"], w.p.spec.Name, w.p.spec.Version, string(Stopped), stop)
		return err
	})
	if err != nil {
		return err
	}
	w.parked[key] = true
	w.setDue()
	w.tellParked(key, event.Position, 1, cause)
	w.config.Logger.WarnContext(ctx, "an event is parked", "projection", w.p.spec.Name, "key", key, "position", event.Position, "err", cause)
	if stop != "" {
		w.config.Logger.ErrorContext(ctx, "a projection stops", "projection", w.p.spec.Name, "reason", stop)
		w.stop()
	}
	return nil
}

func (w *worker) setDue() { w.due = time.Now().Add(lookAtParked) }

func (w *worker) loadParked(ctx context.Context) error {
	keys, err := w.parkedKeys(ctx, "parked_keys")
	if err != nil {
		return err
	}
	clear(w.parked)
	for _, key := range keys {
		w.parked[key] = true
	}
	w.due = time.Time{}
	return nil
}

func (w *worker) parkedKeys(ctx context.Context, sql string) ([]string, error) {
	rows, err := w.pool.Query(ctx, w.sql[sql], w.p.spec.Name, w.p.spec.Version, w.lease.Shard)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// retryAtOnce bounds how long events that were parked hold the others up.
const retryAtOnce = 100 * time.Millisecond

// retryParked tries the parked keys whose time has come, or that an operator wants tried or skipped.
func (w *worker) retryParked(ctx context.Context) error {
	if len(w.parked) == 0 || time.Now().Before(w.due) {
		return nil
	}
	began := time.Now()
	keys, err := w.parkedKeys(ctx, "parked_due")
	if err != nil {
		return err
	}
	for _, key := range keys {
		for again := true; again; {
			if w.stopping() || time.Since(began) > retryAtOnce { // the others' turn; this goes on at the next step
				return nil
			}
			if again, err = w.retryKey(ctx, key); err != nil {
				return err
			}
		}
	}
	w.setDue()
	return nil
}

// parkedEvent is the first event of a parked key.
type parkedEvent struct {
	Position int64
	StreamID string
	Version  int64
	Attempts int
	Error    string
	Skip     *string
}

// retryKey tries the first event of a key; it reports whether the next one may be tried.
func (w *worker) retryKey(ctx context.Context, key string) (again bool, err error) {
	rows, err := w.pool.Query(ctx, w.sql["parked_next"], w.p.spec.Name, w.p.spec.Version, w.lease.Shard, key)
	if err != nil {
		return false, err
	}
	next, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[parkedEvent])
	if errors.Is(err, pgx.ErrNoRows) { // that was the last of the key
		delete(w.parked, key)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	args := []any{w.p.spec.Name, w.p.spec.Version, w.lease.Shard, key, next.Position}
	more := false
	done := func(tx pgx.Tx) error {
		var n int
		err := tx.QueryRow(ctx, w.sql["parked_done"], append(args, next.Skip != nil)...).Scan(&n, &more)
		if err == nil && n != 1 { // an earlier try, whose answer was lost, has done it
			err = errLost
		}
		return err
	}
	if next.Skip != nil {
		err = w.transaction(ctx, w.stored, done)
	} else {
		var event eventstore.Recorded
		if event, err = w.parkedRecorded(ctx, next); err == nil {
			err = w.applyParked(ctx, event, done)
		}
	}
	if err == nil {
		if !more {
			delete(w.parked, key)
		}
		return more, nil
	}
	var poison *poisonError
	if !errors.As(err, &poison) {
		return false, err
	}
	if next.Attempts == 0 { // it waited behind others, and now fails by itself
		w.config.Logger.WarnContext(ctx, "an event that waited behind a parked one fails, too", "projection", w.p.spec.Name, "key", key, "position", next.Position, "err", poison.err)
	}
	w.tellParked(key, eventstore.Position(next.Position), next.Attempts+1, poison.err)
	return false, w.transaction(ctx, w.stored, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, w.sql["parked_failed"], append(args, errorText(poison.err), w.retryIn(next.Attempts+1))...)
		return err
	})
}

// parkedRecorded reads a parked event from its stream.
func (w *worker) parkedRecorded(ctx context.Context, next parkedEvent) (eventstore.Recorded, error) {
	for event, err := range w.store.Stream(ctx, eventstore.StreamID(next.StreamID), eventstore.Version(next.Version-1)) {
		var bad *eventstore.DecodeError
		if errors.As(err, &bad) || errors.Is(err, eventstore.ErrArchived) && ctx.Err() == nil { // the others go on
			return event, &poisonError{err}
		}
		return event, err
	}
	return eventstore.Recorded{}, &poisonError{fmt.Errorf("event %d of stream %s is not in the log", next.Version, next.StreamID)}
}

func (w *worker) applyParked(ctx context.Context, event eventstore.Recorded, done func(pgx.Tx) error) error {
	batch, err := w.prepare(ctx, []eventstore.Recorded{event})
	if err != nil {
		return err
	}
	return w.transaction(ctx, w.stored, func(tx pgx.Tx) error {
		if err := w.callApply(ctx, tx, batch); err != nil {
			return err
		}
		return done(tx)
	})
}

func (w *worker) tellParked(key string, at eventstore.Position, attempts int, err error) {
	if hook := w.config.Hooks.Parked; hook != nil {
		hook(ParkedInfo{
			Projection: w.p.spec.Name, Version: w.p.spec.Version, Shard: w.lease.Shard,
			Key: key, Position: at, Attempts: attempts, Err: err,
		})
	}
}
