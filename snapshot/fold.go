package snapshot

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
)

// bounds are inclusive, each at its largest where it does not bound.
type bounds struct {
	version            eventstore.Version
	position           eventstore.Position
	recorded, occurred time.Time
}

func never() time.Time { return time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC) }

func (b bounds) open() bounds {
	if b.version == 0 {
		b.version = math.MaxInt64
	}
	if b.position == 0 {
		b.position = math.MaxInt64
	}
	if b.recorded.IsZero() {
		b.recorded = never()
	}
	if b.occurred.IsZero() {
		b.occurred = never()
	}
	return b
}

// ends says that neither this event nor a later one of its stream is within bounds: versions, positions and recorded times
// never fall.
func (b bounds) ends(e eventstore.Recorded) bool {
	return e.Version > b.version || e.Position > b.position || e.RecordedAt.After(b.recorded)
}

func (b bounds) holds(e eventstore.Recorded) bool { return !e.OccurredAt.After(b.occurred) }

// whole says that every event up to the last one is within bounds, so that the state is one that a snapshot may hold.
func (b bounds) whole() bool { return b.occurred.Equal(never()) }

// toTheEnd says that nothing bounds the end.
func (b bounds) toTheEnd() bool {
	return b.version == math.MaxInt64 && b.position == math.MaxInt64 && b.recorded.Equal(never())
}

// foldOn folds from a snapshot on, or from zero if the snapshot cannot be used.
func (l *Loader[S]) foldOn(ctx context.Context, start Loaded[S], b bounds) (Loaded[S], error) {
	found, err := l.foldFrom(ctx, start, b)
	var unusable *unusableError
	if errors.As(err, &unusable) {
		l.ignore(ctx, start, unusable)
		found, err = l.foldFrom(ctx, l.zero(start.StreamID), b)
	}
	return found, err
}

func (l *Loader[S]) zero(id eventstore.StreamID) Loaded[S] {
	return Loaded[S]{StreamID: id, State: l.fold.New(id)}
}

// foldFrom reads the stream from the snapshot's own last event on, which must still be there.
func (l *Loader[S]) foldFrom(ctx context.Context, start Loaded[S], b bounds) (Loaded[S], error) {
	found := start
	state := l.decoding(start)
	if !b.whole() { // what was recorded later may have occurred earlier, so that only the log knows where to end
		last, err := l.store.LastOccurred(ctx, start.StreamID, b.occurred)
		if err != nil {
			return found, err
		}
		b.version = min(b.version, max(last, start.Version, 1))
	}
	for event, err := range l.tail(ctx, start, b) {
		if err != nil {
			return found, err
		}
		found.Read++
		if event.Version == start.Version {
			if found.State, err = state(); err != nil {
				return found, err
			}
			found.last = event
			continue
		}
		if b.ends(event) {
			break
		}
		if !b.holds(event) {
			continue
		}
		if err := l.apply(&found, event); err != nil {
			return found, err
		}
		if b.whole() && int64(event.Version)%int64(l.config.Every) == 0 {
			l.keepState(ctx, &found)
		}
	}
	return found, nil
}

func (l *Loader[S]) apply(found *Loaded[S], event eventstore.Recorded) (err error) {
	if found.State, err = l.fold.Apply(found.State, event); err != nil {
		return fmt.Errorf("applying event %d: %w", event.Version, err)
	}
	found.Version, found.last = event.Version, event
	if event.OccurredAt.After(found.occurred) {
		found.occurred = event.OccurredAt
	}
	return nil
}

func moved() *unusableError { return &unusableError{"the event it ends with is not in the stream"} }

// tail yields the event that a snapshot ends with, and those after it; an unusableError if another event stands there, or none.
func (l *Loader[S]) tail(ctx context.Context, start Loaded[S], b bounds) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		checked := start.Version == 0
		for event, err := range l.events(ctx, start, b) {
			if err == nil && !checked && (event.Version != start.Version || event.ID != start.last.ID) {
				err = moved()
			}
			if !yield(event, err) || err != nil {
				return
			}
			checked = true
		}
		if !checked {
			yield(eventstore.Recorded{}, moved())
		}
	}
}

// events reads from the snapshot's last event on. Where the end is a position or a time, its version is not known: it is looked
// for in windows, the first of which reaches to where the next snapshot might be.
func (l *Loader[S]) events(ctx context.Context, start Loaded[S], b bounds) iter.Seq2[eventstore.Recorded, error] {
	from := max(start.Version-1, 0)
	if b.version < math.MaxInt64 || b.toTheEnd() {
		return l.store.StreamTo(ctx, start.StreamID, from, b.version)
	}
	return func(yield func(eventstore.Recorded, error) bool) {
		for window := eventstore.Version(l.config.Every) + 2; ; window *= 2 {
			to := from + window
			for event, err := range l.store.StreamTo(ctx, start.StreamID, from, to) {
				if !yield(event, err) || err != nil {
					return
				}
				from = event.Version
			}
			if from < to {
				return
			}
		}
	}
}

// keepState remembers the state as one to leave behind. Of many, the newest that may be kept.
func (l *Loader[S]) keepState(ctx context.Context, found *Loaded[S]) {
	state, err := l.encode(found)
	if err != nil {
		l.config.Logger.WarnContext(ctx, "encoding a snapshot", "stream", found.StreamID, "fold", l.fold.Name, "err", err)
		return
	}
	if len(found.passed) == l.config.Keep {
		found.passed = found.passed[1:]
	}
	found.passed = append(found.passed, state)
}
