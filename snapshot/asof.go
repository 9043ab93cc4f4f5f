package snapshot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
)

// At is a point of the past. What is zero does not bound it; what is not bounds it together.
type At struct {
	// Version of the stream: its state after that event.
	Version eventstore.Version
	// Position in the log: events up to it.
	Position eventstore.Position
	// Recorded is a time of the database: what was known then. It must lie in the past.
	Recorded time.Time
	// Occurred is a time as the writers say: what had happened then, as far as it is known (now, or at Recorded).
	Occurred time.Time
}

// ErrFuture is returned for a recorded time that the database's clock has not passed, and for a position that is not settled: what
// is known then is not known yet.
var ErrFuture = errors.New("it is not past yet")

// AsOf returns a stream's state at a point of the past: the state of a new stream, with Version 0, if it had not begun. Asking again
// for a recorded time, a position, or a version that is there gives the same answer; what had occurred by a time can become
// more, as events come late, unless a recorded time bounds it too. The error matches [ErrFuture], or is that of reading or of
// Apply.
func (l *Loader[S]) AsOf(ctx context.Context, id eventstore.StreamID, at At) (Loaded[S], error) {
	b, err := l.resolve(ctx, at)
	if err != nil {
		return Loaded[S]{}, fmt.Errorf("the state of %s as of %+v: %w", id, at, err)
	}
	found, err := l.load(ctx, id, b)
	if err != nil {
		return Loaded[S]{}, fmt.Errorf("the state of %s as of %+v: %w", id, at, err)
	}
	l.leave(ctx, id, found.passed)
	return found, nil
}

// resolve fixes what was known at a recorded time.
func (l *Loader[S]) resolve(ctx context.Context, at At) (bounds, error) {
	if at.Version < 0 || at.Position < 0 {
		return bounds{}, &eventstore.InvalidError{Index: -1, Field: "At", Reason: "is negative"}
	}
	b := bounds{version: at.Version, position: at.Position, recorded: at.Recorded, occurred: at.Occurred}.open()
	if at.Position > 0 {
		if err := l.past(ctx, at.Position); err != nil {
			return b, err
		}
	}
	if at.Recorded.IsZero() {
		return b, nil
	}
	settled, err := l.moment(ctx, at.Recorded)
	if err != nil {
		return b, fmt.Errorf("finding what was settled: %w", explained(err))
	}
	if settled == nil {
		return b, ErrFuture
	}
	b.position = min(b.position, eventstore.Position(*settled))
	return b, nil
}

// past is ErrFuture for a position below which something may still be committed.
func (l *Loader[S]) past(ctx context.Context, at eventstore.Position) error {
	if int64(at) <= l.settled.Load() {
		return nil
	}
	settled, err := l.store.Settled(ctx)
	if err != nil {
		return err
	}
	l.settled.Store(int64(settled))
	if at > settled {
		return ErrFuture
	}
	return nil
}

// moment is the settled position of the first moment after a time; nil if it is not past. A new one is made in READ COMMITTED,
// whatever the session's default.
func (l *Loader[S]) moment(ctx context.Context, at time.Time) (settled *int64, err error) {
	err = l.store.Pool().QueryRow(ctx, l.sql["moment"], at).Scan(&settled)
	if pg.Code(err) == pg.ActiveTransaction {
		err = pg.InTx(ctx, l.store.Pool(), func(tx pgx.Tx) error { return tx.QueryRow(ctx, l.sql["moment"], at).Scan(&settled) })
	}
	return settled, err
}
