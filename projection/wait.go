package projection

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
)

// progress wakes those who wait in the process where a checkpoint moves.
type progress struct {
	mu      sync.Mutex
	changed chan struct{}
}

func newProgress() *progress { return &progress{changed: make(chan struct{})} }

func (p *progress) tell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *progress) next() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

const (
	waitSoon = 2 * time.Millisecond
	waitLong = 100 * time.Millisecond
)

// WaitFor returns when a projection has come to a position, wherever it runs: what was appended up to there can be read from
// its tables, but for what is parked. It waits until ctx ends. The error matches [ErrStopped] where the projection is paused
// or stopped before the position, and [ErrUnknown] for one that this runner does not have.
func (r *Runner) WaitFor(ctx context.Context, name string, at eventstore.Position) error {
	p := r.find(name)
	if p == nil {
		return unknown(name)
	}
	pause := waitSoon
	known := false // that an event stands at the position
	for {
		changed := r.progress.next()
		var state State
		var reason string
		var done int64
		var inline bool
		err := r.pool.QueryRow(ctx, r.sql["state"], name, p.spec.Version).Scan(&state, &reason, &done, &inline)
		switch {
		case errors.Is(err, pgx.ErrNoRows), pg.Code(err) == pg.UndefinedTable: // nobody has run it yet
			state, done = Running, 0
		case err != nil:
			return fmt.Errorf("waiting for %s: %w", name, allowed(err))
		}
		switch {
		case eventstore.Position(done) >= at, inline:
			return nil
		case !known:
			before, err := r.lastEvent(ctx, at)
			if err != nil {
				return fmt.Errorf("waiting for %s: %w", name, err)
			}
			if known = before >= 0; known && eventstore.Position(done) >= before {
				return nil
			} else if known {
				at = before
			}
		}
		if state != Running {
			return &StoppedError{Name: name, Version: p.spec.Version, State: state, Reason: reason}
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("waiting for %s to come from position %d to %d: %w", name, done, at, ctx.Err())
		case <-changed:
			timer.Stop()
		case <-timer.C:
			pause = min(2*pause, waitLong)
		}
	}
}

// lastEvent is the position of the last event up to a settled position, where a checkpoint can stand; -1 if it is not settled.
func (r *Runner) lastEvent(ctx context.Context, at eventstore.Position) (eventstore.Position, error) {
	settled, err := r.store.Settled(ctx)
	if err != nil || settled < at {
		return -1, err
	}
	var last *int64
	if err := r.pool.QueryRow(ctx, r.sql["last_event"], position(at)).Scan(&last); err != nil || last == nil {
		return 0, err
	}
	return eventstore.Position(*last), nil
}
