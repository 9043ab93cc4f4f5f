package snapshot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
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

// ErrFuture is returned for a recorded time that the database's clock has not passed: what is known then is not known yet.
var ErrFuture = errors.New("the time is not past")

// AsOf returns a stream's state at a point of the past: the zero state, with Version 0, if the stream had not begun. Asking again
// gives the same answer. The error matches [ErrFuture], or is that of reading or of Apply.
func (l *Loader[S]) AsOf(ctx context.Context, id eventstore.StreamID, at At) (Loaded[S], error) {
	b, err := l.resolve(ctx, at)
	if err != nil {
		return Loaded[S]{}, fmt.Errorf("the state of %s as of %+v: %w", id, at, err)
	}
	found, err := l.load(ctx, id, b)
	if err != nil {
		return found, fmt.Errorf("the state of %s as of %+v: %w", id, at, err)
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
	if at.Recorded.IsZero() {
		return b, nil
	}
	var settled *int64
	if err := l.store.Pool().QueryRow(ctx, l.sql["moment"], at.Recorded).Scan(&settled); err != nil {
		return b, fmt.Errorf("finding what was settled: %w", explained(err))
	}
	if settled == nil {
		return b, ErrFuture
	}
	b.position = min(b.position, eventstore.Position(*settled))
	return b, nil
}
