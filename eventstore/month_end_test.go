package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// Guarantees 1, 3 and 5 where a month ends under load: sixteen writers race on four streams with the expected version
// they have read; November becomes December, whose partition nobody has made, and the clock is set back by a second.
func TestRacingWritersAcrossMonthEnd(t *testing.T) {
	t.Parallel()
	var started time.Time // set once the log is there, before anything is appended
	clock := func() time.Time {
		elapsed := time.Since(started)
		if elapsed > 1500*time.Millisecond {
			elapsed -= time.Second // set back, to before midnight again
		}
		return time.Date(2031, 11, 30, 23, 59, 59, 0, time.UTC).Add(elapsed)
	}
	log := newLog(t, eventstore.Config{Clock: clock, PageSize: 50})
	ctx := testContext(t, 2*time.Minute)
	started = time.Now()
	following := &follower{store: log.Store}
	var reading errgroup.Group
	readers, stop := context.WithCancel(ctx)
	reading.Go(func() error { return following.run(readers) })

	var group errgroup.Group
	for w := range 16 {
		group.Go(func() error {
			random := rand.New(rand.NewPCG(uint64(w), 7))
			for time.Since(started) < 4*time.Second {
				id := eventstore.StreamID(fmt.Sprintf("race-%d", random.IntN(4)))
				if err := appendAtHead(t, log, id); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())

	total := 0
	months := map[time.Month]int{}
	for i := range 4 {
		events := eventstoretest.Collect(t, log.Stream(ctx, eventstore.StreamID(fmt.Sprintf("race-%d", i)), 0))
		total += len(events)
		for j, event := range events {
			require.EqualValues(t, j+1, event.Version)
			months[event.RecordedAt.Month()]++
			if j > 0 {
				require.False(t, event.RecordedAt.Before(events[j-1].RecordedAt), "recorded_at fell")
			}
		}
	}
	require.Positive(t, months[time.November])
	require.Positive(t, months[time.December])
	all := eventstoretest.Collect(t, log.All(ctx, 0, eventstore.Filter{}))
	require.Len(t, all, total)
	require.IsIncreasing(t, positionsOf(all))
	require.Eventually(t, func() bool { return following.count() >= total }, 20*time.Second, 10*time.Millisecond)
	stop()
	require.NoError(t, reading.Wait())
	require.Equal(t, positionsOf(all), following.positions)
	following.requireStreamOrder(t)
	t.Logf("%d events: %v", total, months)
}

// Guarantee 3 across months: a follower learns of a new month's partition before it reads past it, also when a later
// event lies in the month before.
func TestFollowerFindsANewMonth(t *testing.T) {
	t.Parallel()
	now := time.Date(2031, 11, 30, 23, 59, 0, 0, time.UTC)
	log := newLog(t, eventstore.Config{Clock: func() time.Time { return now }})
	ctx := testContext(t, time.Minute)
	other, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema(), Codec: noteCodec(t)}) // as in another process
	require.NoError(t, err)
	log.append(t, "a-1", eventstore.NoStream, note{"November"})
	require.Len(t, eventstoretest.Collect(t, other.All(ctx, 0, eventstore.Filter{})), 1)
	now = now.Add(2 * time.Minute)
	log.append(t, "a-2", eventstore.NoStream, note{"December, whose partition is new"})
	now = now.Add(-2 * time.Minute)
	log.append(t, "a-3", eventstore.NoStream, note{"November again"})
	require.Equal(t, []eventstore.Position{1, 2, 3}, positionsOf(eventstoretest.Collect(t, other.All(ctx, 0, eventstore.Filter{}))))
}

// appendAtHead appends at the version it reads; losing the race is no error.
func appendAtHead(t *testing.T, log testLog, id eventstore.StreamID) error {
	ctx := testContext(t, time.Minute)
	expected := eventstore.NoStream
	head, err := log.Head(ctx, id)
	switch {
	case err == nil:
		expected = eventstore.AtVersion(head.Version)
	case !errors.Is(err, eventstore.ErrStreamNotFound):
		return err
	}
	_, err = log.Append(ctx, id, expected, note{"x"})
	if errors.Is(err, eventstore.ErrConflict) {
		return nil
	}
	return err
}
