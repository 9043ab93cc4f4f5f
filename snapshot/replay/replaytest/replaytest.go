// Package replaytest serves tests: recorded discussions against a service's own handler, and a clock for paced replays.
package replaytest

import (
	"context"
	"iter"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/corpus"
	"github.com/sight-platform/hindsight/snapshot/replay"
)

// Recording imports a recording (see package focusgroup; or a file of the corpus), gzipped or not, into a store, and replays each
// of its discussions, one after the other, against a handler, as fast as it can. The first error ends the test; it names
// stream, version and type of the event. So does a recording without events.
func Recording(tb testing.TB, store *eventstore.Store, path string, handle func(context.Context, eventstore.Recorded) error) {
	tb.Helper()
	file, err := os.Open(path)
	if err != nil {
		tb.Fatalf("replaying a recording: %v", err)
	}
	defer func() { _ = file.Close() }()
	var streams []eventstore.StreamID // in the order of the recording
	if _, err := focusgroup.Import(tb.Context(), store, noteStreams(corpus.ReadAny(file), &streams)); err != nil {
		tb.Fatalf("importing %s: %v", path, err)
	}
	if len(streams) == 0 {
		tb.Fatalf("%s holds no events", path)
	}
	for _, id := range streams {
		player, err := replay.Open(tb.Context(), store, replay.Config[struct{}]{}, id)
		if err != nil {
			tb.Fatal(err)
		}
		if err := player.Play(tb.Context(), func(ctx context.Context, step replay.Step[struct{}]) error {
			return handle(ctx, step.Event)
		}); err != nil {
			tb.Fatal(err)
		}
	}
}

func noteStreams(lines iter.Seq2[focusgroup.Line, error], streams *[]eventstore.StreamID) iter.Seq2[focusgroup.Line, error] {
	return func(yield func(focusgroup.Line, error) bool) {
		seen := map[eventstore.StreamID]bool{}
		for line, err := range lines {
			if err == nil && !seen[line.StreamID] {
				seen[line.StreamID] = true
				*streams = append(*streams, line.StreamID)
			}
			if !yield(line, err) {
				return
			}
		}
	}
}

// Clock is a [replay.Clock] for tests: a wait for it ends at once, and takes it to the time that was waited for. An hour's
// discussion plays in milliseconds, each step at its exact time.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock makes a clock that stands at a time.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now is the time it stands at.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves it on.
func (c *Clock) Advance(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}

// Timer goes off at once, and moves the clock on.
func (c *Clock) Timer(d time.Duration) (<-chan time.Time, func()) {
	fired := make(chan time.Time, 1)
	fired <- c.Advance(d)
	return fired, func() {}
}
