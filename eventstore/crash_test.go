package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/internal/devdb"
)

// Guarantees 1, 3 and 9. Eight writers append to a server of their own that is killed with SIGKILL again and again;
// some appends are rolled back, so that the sequence can fall back. A follower goes on from the last position it yielded.
func TestEverythingAcknowledgedSurvivesSIGKILL(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 3*time.Minute)
	cluster, err := devdb.StartCluster(ctx, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	const schema = "hindsight"
	open := func() (*pgxpool.Pool, *eventstore.Store) {
		pool := eventstoretest.Pool(t, cluster.URL())
		store, err := eventstore.New(pool, eventstore.Config{Schema: schema, Codec: noteCodec(t)})
		require.NoError(t, err)
		return pool, store
	}
	_, store := open()
	require.NoError(t, store.Migrate(ctx))

	acknowledged := map[eventstore.Position]eventstore.Receipt{}
	var seen []eventstore.Position
	for round := range 3 {
		pool, store := open()
		receipts, followed := crashRound(ctx, t, cluster, pool, store, round, seen)
		pool.Close()
		for _, receipt := range receipts {
			acknowledged[receipt.Position()] = receipt
		}
		seen = append(seen, followed...)
		require.NoError(t, cluster.Start(ctx))
	}

	_, store = open()
	require.NoError(t, store.CheckSchema(ctx))
	all := eventstoretest.Collect(t, store.All(ctx, 0, eventstore.Filter{}))
	stored := map[eventstore.Position]eventstore.Recorded{}
	next := map[eventstore.StreamID]eventstore.Version{}
	for _, event := range all {
		stored[event.Position] = event
		next[event.StreamID]++
		require.Equal(t, next[event.StreamID], event.Version, "%s", event.StreamID)
	}
	for position, receipt := range acknowledged {
		event, ok := stored[position]
		require.True(t, ok, "position %d of %s was acknowledged and is gone", position, receipt.StreamID)
		require.Equal(t, receipt.Version, event.Version)
		require.Equal(t, receipt.EventIDs[0], event.ID)
	}
	require.Equal(t, positionsOf(all)[:len(seen)], seen, "the follower skipped or repeated something across the crashes")
	t.Logf("%d events acknowledged, %d stored, %d followed", len(acknowledged), len(all), len(seen))
	require.NotEmpty(t, seen)
	require.GreaterOrEqual(t, len(acknowledged), 300)
}

// crashRound appends until enough is acknowledged, kills the server, and returns what was acknowledged and followed.
func crashRound(ctx context.Context, t *testing.T, cluster *devdb.Cluster, pool *pgxpool.Pool, store *eventstore.Store, round int, before []eventstore.Position) (receipts []eventstore.Receipt, followed []eventstore.Position) {
	var mu sync.Mutex
	var group sync.WaitGroup
	enough := make(chan struct{})
	var once sync.Once
	for w := range 8 {
		group.Go(func() {
			for i := 0; ; i++ {
				if i%4 == 0 { // takes positions that nothing will hold
					if tx, err := pool.Begin(ctx); err == nil {
						_, _ = store.WithTx(tx).Append(ctx, eventstore.StreamID(fmt.Sprintf("burnt-%d-%d-%d", round, w, i)), eventstore.NoStream, note{"x"})
						_ = tx.Rollback(ctx)
					}
				}
				receipt, err := store.Append(ctx, eventstore.StreamID(fmt.Sprintf("crash-%d-%d", w, i%10)), eventstore.Any, note{fmt.Sprint(round, w, i)})
				if err != nil {
					return // the server is gone
				}
				mu.Lock()
				receipts = append(receipts, receipt)
				if len(receipts) >= 200 {
					once.Do(func() { close(enough) })
				}
				mu.Unlock()
			}
		})
	}
	group.Go(func() {
		after := eventstore.Position(0)
		if len(before) > 0 {
			after = before[len(before)-1]
		}
		for event, err := range store.Follow(ctx, after, eventstore.Filter{}) {
			if err != nil {
				return
			}
			followed = append(followed, event.Position)
		}
	})
	select {
	case <-enough:
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
	require.NoError(t, cluster.Kill())
	group.Wait()
	return receipts, followed
}

// Guarantees 1, 9 and 11: writers that go on through SIGKILLs of the server, repeating what was not answered with the same
// ids, have each append in the log exactly once at the end: nothing acknowledged lost, nothing doubled.
func TestRepetitionsThroughSIGKILL(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 3*time.Minute)
	cluster, err := devdb.StartCluster(ctx, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	var now atomic.Pointer[eventstore.Store] // a restarted server may have another address
	open := func() {
		store, err := eventstore.New(eventstoretest.Pool(t, cluster.URL()), eventstore.Config{Codec: noteCodec(t)})
		require.NoError(t, err)
		now.Store(store)
	}
	open()
	require.NoError(t, now.Load().Migrate(ctx))

	const writers, kills, between = 8, 3, 120
	hands := make([]insistent, writers)
	var answered atomic.Int64
	stop := make(chan struct{})
	group, writing := errgroup.WithContext(ctx) // which ends if one of them fails
	for w := range writers {
		hands[w].store = now.Load
		group.Go(func() error {
			return appendThroughCrashes(ctx, &hands[w], w, stop, &answered)
		})
	}
	untilAnswered := func(n int64) {
		t.Helper()
		for answered.Load() < n {
			if writing.Err() != nil {
				require.NoError(t, group.Wait())
			}
			time.Sleep(time.Millisecond)
		}
	}
	for kill := range kills {
		untilAnswered(int64((kill + 1) * between))
		require.NoError(t, cluster.Kill())
		require.NoError(t, cluster.Start(ctx))
		open()
	}
	untilAnswered((kills + 1) * between)
	close(stop)
	require.NoError(t, group.Wait())
	var acknowledged []eventstore.Receipt
	repetitions, found := 0, 0
	for _, hand := range hands {
		acknowledged = append(acknowledged, hand.acknowledged...)
		repetitions, found = repetitions+hand.repetitions, found+hand.found
	}
	requireOnce(t, now.Load(), acknowledged)
	t.Logf("%d appends acknowledged, %d repetitions, %d of which found their events in the log", answered.Load(), repetitions, found)
	require.Positive(t, repetitions, "no append was cut off")
}

// appendThroughCrashes appends to a stream of its own, to a shared one and to both. No other writer is on its own stream, so a
// conflict there is one with itself.
func appendThroughCrashes(ctx context.Context, hand *insistent, w int, stop <-chan struct{}, answered *atomic.Int64) error {
	own, version := eventstore.StreamID(fmt.Sprintf("own-%d", w)), eventstore.Version(0)
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		appends := []eventstore.StreamAppend{
			{StreamID: own, Expected: eventstore.AtVersion(version), Events: []any{note{fmt.Sprint(w, i)}, note{"and more"}}},
			{StreamID: eventstore.StreamID(fmt.Sprintf("shared-%d", i%2)), Expected: eventstore.Any, Events: []any{note{fmt.Sprint(w, i)}}},
		}
		switch i % 3 {
		case 0:
			appends = appends[:1]
		case 1:
			appends = appends[1:]
		}
		receipts, err := hand.append(ctx, appends...)
		if err != nil {
			return fmt.Errorf("writer %d, append %d: %w", w, i, err)
		}
		if receipts[0].StreamID == own {
			version = receipts[0].Version
		}
		answered.Add(1)
	}
}

// Guarantee 9's other half: an append whose answer was cut off says that its outcome is unknown, one that was never sent
// does not.
func TestOutcomeUnknown(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	log.append(t, "held-1", eventstore.NoStream, note{"a"})
	holder, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, holder.Rollback(context.WithoutCancel(ctx))) }()
	_, err = log.WithTx(holder).Append(ctx, "held-1", eventstore.Any, note{"b"})
	require.NoError(t, err)

	cut, cancel := context.WithTimeout(ctx, 100*time.Millisecond) // while the append waits for the head row
	defer cancel()
	_, err = log.Append(cut, "held-1", eventstore.Any, note{"c"})
	require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	over, cancel := context.WithCancel(ctx)
	cancel()
	_, err = log.Append(over, "held-2", eventstore.Any, note{"d"})
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, errors.Is(err, eventstore.ErrOutcomeUnknown))
}
