package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
)

// Fold says how a state is made of a stream's events.
type Fold[S any] struct {
	// Name of the state: lower-case letters, digits and underscores.
	Name string
	// Version must be raised whenever New or Apply change what comes out: snapshots of other versions are not used.
	Version int
	// Format must be raised whenever the state's JSON changes its shape. Defaults to 1.
	Format int
	// New makes the state of a stream without events. It must survive encoding/json.
	New func(eventstore.StreamID) S
	// Apply makes the next state. It may change the one it is given.
	Apply func(S, eventstore.Recorded) (S, error)
}

// Config of a [Loader].
type Config struct {
	// Every is how many events lie between two snapshots: a load that passes a version divisible by it leaves one there.
	// Defaults to 100.
	Every int
	// OlderThan lets a load that found a newer event write a snapshot too, where the one it began with is older. 0: never.
	OlderThan time.Duration
	// Keep is how many snapshots of a stream are kept, the newest ones: loads as of earlier versions fold more events. Defaults
	// to 100.
	Keep int
	// Logger is told what went wrong with snapshots. Defaults to none.
	Logger *slog.Logger
	// Ignored is called for a snapshot that was not used though its key fits. It may be nil.
	Ignored func(Ignored)
}

// Ignored is a snapshot that was found and not used. It has been deleted.
type Ignored struct {
	StreamID eventstore.StreamID
	Fold     string
	Version  eventstore.Version
	Reason   string
}

// Loader loads states. It is safe for concurrent use.
type Loader[S any] struct {
	store  *eventstore.Store
	fold   Fold[S]
	config Config
	sql    queries

	settled atomic.Int64 // a settled position that was seen
}

// NewLoader makes a loader. It neither connects nor creates anything. Errors match [eventstore.ErrInvalid] or
// [eventstore.ErrNoPool].
func NewLoader[S any](store *eventstore.Store, fold Fold[S], config Config) (*Loader[S], error) {
	if fold.Format == 0 {
		fold.Format = 1
	}
	if config.Every == 0 {
		config.Every = 100
	}
	if config.Keep == 0 {
		config.Keep = 100
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	fail := func(field, reason string) error {
		return &eventstore.InvalidError{Index: -1, Field: field, Reason: reason}
	}
	named, _ := regexp.MatchString(`^[a-z_][a-z0-9_]{0,62}$`, fold.Name)
	switch {
	case store.Pool() == nil:
		return nil, eventstore.ErrNoPool
	case !named:
		return nil, fail("Fold.Name", fmt.Sprintf("%q is not made of up to 63 lower-case letters, digits and underscores", fold.Name))
	case fold.Version < 1 || fold.Format < 1:
		return nil, fail("Fold.Version", "and Format start at 1")
	case fold.New == nil || fold.Apply == nil:
		return nil, fail("Fold", "has no New or no Apply")
	case config.Every < 1 || config.Keep < 1 || config.OlderThan < 0:
		return nil, fail("Config", "has a negative Every, Keep or OlderThan")
	}
	sql, err := newQueries(pg.QuoteSchema(store.Schema()))
	if err != nil {
		return nil, err
	}
	return &Loader[S]{store: store, fold: fold, config: config, sql: sql}, nil
}

// Loaded is a state and how it came about.
type Loaded[S any] struct {
	StreamID eventstore.StreamID
	State    S
	// Version of the last event in it; 0 for a stream that had none.
	Version eventstore.Version
	// Snapshot is the version of the snapshot that was used; 0 if none was.
	Snapshot eventstore.Version
	// Read is how many events were read for it, that of the snapshot among them.
	Read int

	last     eventstore.Recorded
	occurred time.Time      // the latest of all events in it
	old      bool           // the snapshot is, by Config.OlderThan
	passed   []saved        // snapshots to leave behind
	row      *foundSnapshot // whose state is not decoded yet
}

// Load returns a stream's state now. On its way it leaves snapshots behind, as [Config] says; the error of one is only logged.
// The error matches [eventstore.ErrStreamNotFound] for a stream without events, or is that of reading or of Apply.
func (l *Loader[S]) Load(ctx context.Context, id eventstore.StreamID) (Loaded[S], error) {
	found, err := l.load(ctx, id, bounds{}.open())
	if err == nil && found.Version == 0 {
		err = eventstore.ErrStreamNotFound
	}
	if err != nil {
		return Loaded[S]{}, fmt.Errorf("loading %s: %w", id, err)
	}
	if found.old && found.Version > found.Snapshot {
		l.keepState(ctx, &found)
	}
	l.leave(ctx, id, found.passed)
	return found, nil
}

// Snapshot loads a stream's state and writes a snapshot of it, whatever the policies say. The error matches [ErrQuarantined], or
// is that of [Loader.Load] or of writing.
func (l *Loader[S]) Snapshot(ctx context.Context, id eventstore.StreamID) (Loaded[S], error) {
	found, err := l.Load(ctx, id)
	if err != nil || found.Version == found.Snapshot {
		return found, err
	}
	if quarantined, err := l.quarantined(ctx); err != nil || quarantined {
		return found, fmt.Errorf("writing a snapshot of %s: %w", id, errors.Join(err, ErrQuarantined))
	}
	state, err := l.encode(&found)
	if err == nil {
		err = l.save(ctx, id, []saved{state})
	}
	if err != nil {
		return found, fmt.Errorf("writing a snapshot of %s: %w", id, explained(err))
	}
	return found, nil
}

// load folds what lies within bounds, from the newest snapshot that does.
func (l *Loader[S]) load(ctx context.Context, id eventstore.StreamID, b bounds) (Loaded[S], error) {
	start, err := l.newest(ctx, id, b)
	if err != nil {
		return Loaded[S]{}, err
	}
	return l.foldOn(ctx, start, b)
}
