package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/internal/devdb"
)

// Guarantee 3 on a streaming replica, which sees neither fences nor the true end of the sequence: the log ends there at the
// settled position that the primary has stored, and nothing can be written.
func TestStandbyReadsUpToTheStoredPosition(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 2*time.Minute)
	pair := newReplicatedLog(ctx, t)
	primary, standby := pair.primaryStore, pair.standbyStore
	for i := range 3 {
		_, err := primary.Append(ctx, "a-1", eventstore.Any, note{fmt.Sprint(i)})
		require.NoError(t, err)
	}
	stored, err := primary.Settle(ctx)
	require.NoError(t, err)
	var above eventstore.Receipt
	for i := range 2 {
		above, err = primary.Append(ctx, "a-1", eventstore.Any, note{fmt.Sprint("above", i)})
		require.NoError(t, err)
	}
	pair.awaitReplay(ctx, t)

	// The stream is whole, the log ends at the stored position.
	events := eventstoretest.Collect(t, standby.Stream(ctx, "a-1", 0))
	require.Len(t, events, 5)
	requireLogEndsAt(ctx, t, standby, events[:3])
	require.Equal(t, stored, events[2].Position)
	head, err := standby.Head(ctx, "a-1")
	require.NoError(t, err)
	require.Equal(t, eventstore.Version(5), head.Version)
	require.NoError(t, standby.CheckSchema(ctx))
	for _, isolation := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead} {
		require.NoError(t, pgx.BeginTxFunc(ctx, pair.standbyPool, pgx.TxOptions{IsoLevel: isolation}, func(tx pgx.Tx) error {
			require.Equal(t, events[:3], eventstoretest.Collect(t, standby.WithTx(tx).All(ctx, 0, eventstore.Filter{})))
			return nil
		}))
	}
	// A cursor that the primary gave is ahead of the log here: nothing is lost, nothing is there yet.
	page, err := standby.Page(ctx, eventstore.PageQuery{After: events[4].Cursor()})
	require.NoError(t, err)
	require.Empty(t, page.Events)
	require.Empty(t, eventstoretest.Collect(t, standby.All(ctx, above.Position(), eventstore.Filter{})))

	_, err = primary.Settle(ctx)
	require.NoError(t, err)
	pair.awaitReplay(ctx, t)
	requireLogEndsAt(ctx, t, standby, events)

	_, err = standby.Append(ctx, "a-1", eventstore.Any, note{"refused"})
	requireReadOnly(t, err)
	require.NotErrorIs(t, err, eventstore.ErrOutcomeUnknown)
	_, err = standby.Settle(ctx)
	requireReadOnly(t, err)
	requireLogEndsAt(ctx, t, standby, events)
}

// requireReadOnly expects PostgreSQL's own answer to a write on a standby.
func requireReadOnly(t *testing.T, err error) {
	t.Helper()
	var answer *pgconn.PgError
	require.ErrorAs(t, err, &answer)
	require.Equal(t, "25006", answer.Code, "read_only_sql_transaction")
	require.False(t, eventstore.Retryable(err), "the same server will not take it later")
}

// requireLogEndsAt reads the log in each way.
func requireLogEndsAt(ctx context.Context, t *testing.T, store *eventstore.Store, want []eventstore.Recorded) {
	t.Helper()
	end := want[len(want)-1].Position
	require.Equal(t, want, eventstoretest.Collect(t, store.All(ctx, 0, eventstore.Filter{})))
	settled, err := store.Settled(ctx)
	require.NoError(t, err)
	require.Equal(t, end, settled)
	page, err := store.Page(ctx, eventstore.PageQuery{Limit: len(want) - 1})
	require.NoError(t, err)
	require.Equal(t, want[:len(want)-1], page.Events)
	require.True(t, page.More)
	page, err = store.Page(ctx, eventstore.PageQuery{After: page.Next})
	require.NoError(t, err)
	require.Equal(t, want[len(want)-1:], page.Events)
	require.False(t, page.More)
	health, err := store.Health(ctx)
	require.NoError(t, err)
	require.True(t, health.Reachable)
	require.Equal(t, end, health.Settled)
	require.Equal(t, end, health.Last, "the sequence runs ahead here: it is not told")
}

// Guarantee 3 for followers of a replica: writers append on the primary, some slowly, some in vain, and maintenance settles
// now and then. The primary dies, the replica takes over: positions go on above all that was seen, the follower goes on, and
// so does one with a cursor of before.
func TestFollowerOfAStandbySkipsNothing(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 2*time.Minute)
	pair := newReplicatedLog(ctx, t)
	following := &follower{store: pair.standbyStore}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- following.run(reading) }()

	committed := pair.soak(ctx, t)
	require.Eventually(t, func() bool { return following.count() >= len(committed) }, 20*time.Second, 10*time.Millisecond,
		"the follower has not got all of the %d events", len(committed))
	settled, err := pair.standbyStore.Settled(ctx)
	require.NoError(t, err)
	require.GreaterOrEqual(t, settled, committed[len(committed)-1])
	all := eventstoretest.Collect(t, pair.standbyStore.All(ctx, 0, eventstore.Filter{}))
	require.Equal(t, committed, positionsOf(all), "the same order in a rerun")

	require.NoError(t, pair.primary.Kill())
	_, err = pair.standbyPool.Exec(ctx, `SELECT pg_promote()`)
	require.NoError(t, err)
	for i := range 5 {
		receipt, err := pair.standbyStore.Append(ctx, eventstore.StreamID(fmt.Sprintf("soak-%d", i)), eventstore.Any, note{"after the failover"})
		require.NoError(t, err)
		require.Greater(t, receipt.Position(), max(settled, committed[len(committed)-1]))
		committed = append(committed, receipt.Position())
	}
	require.Eventually(t, func() bool { return following.count() >= len(committed) }, 20*time.Second, 10*time.Millisecond,
		"the follower has not got all of the %d events", len(committed))
	stop()
	require.NoError(t, <-ended)
	require.Equal(t, committed, following.positions, "every committed event once, in order")
	following.requireStreamOrder(t)
	after, err := pair.standbyStore.Resume(ctx, all[len(all)-1].Cursor())
	require.NoError(t, err)
	again := eventstoretest.Collect(t, pair.standbyStore.All(ctx, after, eventstore.Filter{}))
	require.Equal(t, committed[len(all):], positionsOf(again), "from a cursor of before the failover")
	require.NoError(t, pair.standbyStore.CheckSchema(ctx))
}

// replicatedLog is a log on a primary, and the same log on its standby.
type replicatedLog struct {
	primary                    *devdb.Cluster
	primaryPool, standbyPool   *pgxpool.Pool
	primaryStore, standbyStore *eventstore.Store
}

func newReplicatedLog(ctx context.Context, t *testing.T) *replicatedLog {
	primary, err := devdb.StartCluster(ctx, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, primary.Close()) })
	standby, err := primary.StartStandby(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, standby.Close()) })
	log := &replicatedLog{
		primary: primary, primaryPool: eventstoretest.Pool(t, primary.URL()), standbyPool: eventstoretest.Pool(t, standby.URL()),
	}
	config := eventstore.Config{Codec: noteCodec(t), PollInterval: 10 * time.Millisecond, PageSize: 7}
	log.primaryStore, err = eventstore.New(log.primaryPool, config)
	require.NoError(t, err)
	log.standbyStore, err = eventstore.New(log.standbyPool, config)
	require.NoError(t, err)
	require.NoError(t, log.primaryStore.Migrate(ctx))
	log.awaitReplay(ctx, t)
	return log
}

// awaitReplay waits until the standby has all that the primary has committed.
func (l *replicatedLog) awaitReplay(ctx context.Context, t *testing.T) {
	t.Helper()
	var end string
	require.NoError(t, l.primaryPool.QueryRow(ctx, `SELECT pg_current_wal_lsn()::text`).Scan(&end))
	for there := false; !there; time.Sleep(5 * time.Millisecond) { // the server replays with the processor we share
		err := l.standbyPool.QueryRow(ctx, `SELECT coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)`, end).Scan(&there)
		require.NoError(t, err, "waiting for the standby")
	}
}

// soak runs four writers on the primary beside something that settles every 20 ms, settles at last, and returns the
// positions that were committed, sorted.
func (l *replicatedLog) soak(ctx context.Context, t *testing.T) []eventstore.Position {
	const writers, each = 4, 150
	var mu sync.Mutex
	var committed []eventstore.Position
	var writing, maintenance errgroup.Group
	for w := range writers {
		writing.Go(func() error {
			random := rand.New(rand.NewPCG(uint64(w), 42))
			for range each {
				positions, err := l.appendOnce(ctx, w, random)
				if err != nil {
					return fmt.Errorf("writer %d: %w", w, err)
				}
				mu.Lock()
				committed = append(committed, positions...)
				mu.Unlock()
			}
			return nil
		})
	}
	written := make(chan struct{})
	settles := 0
	maintenance.Go(func() error {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ; ; settles++ {
			select {
			case <-written:
				return nil
			case <-tick.C:
			}
			if _, err := l.primaryStore.Settle(ctx); err != nil {
				return err
			}
		}
	})
	err := writing.Wait()
	close(written)
	require.NoError(t, errors.Join(err, maintenance.Wait()))
	_, err = l.primaryStore.Settle(ctx)
	require.NoError(t, err)
	slices.Sort(committed)
	t.Logf("%d events committed, settled %d times meanwhile", len(committed), settles)
	require.Greater(t, settles, 10, "the follower is to meet the log in parts")
	return committed
}

// appendOnce appends in a transaction that may be slow, and may be rolled back.
func (l *replicatedLog) appendOnce(ctx context.Context, w int, random *rand.Rand) (positions []eventstore.Position, err error) {
	err = pgx.BeginFunc(ctx, l.primaryPool, func(tx pgx.Tx) error {
		receipt, err := l.primaryStore.WithTx(tx).Append(ctx, eventstore.StreamID(fmt.Sprintf("soak-%d", w)), eventstore.Any, note{"a"}, note{"b"})
		if err != nil {
			return err
		}
		positions = receipt.Positions
		if random.IntN(3) == 0 {
			if _, err := tx.Exec(ctx, `SELECT pg_sleep($1)`, random.Float64()*0.05); err != nil {
				return err
			}
		}
		if random.IntN(5) == 0 {
			return errRollBack
		}
		return nil
	})
	if errors.Is(err, errRollBack) {
		return nil, nil
	}
	return positions, err
}
