package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// Guarantees 3 and 4. Sixteen writers append through transactions, one in five rolled back, some after a pause, some
// with a savepoint rolled back in between, while a foreign transaction with an xid of its own stays open. Three
// followers and a control, the reader that trusts "position > cursor", read along.
func TestNoReaderSkips(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, 2*time.Minute)
	foreign, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, foreign.Rollback(context.WithoutCancel(ctx))) }()
	_, err = foreign.Exec(ctx, `SELECT pg_current_xact_id()`)
	require.NoError(t, err)

	// Followers: one beside the writers, one with a store of its own (which only polls), one through filters.
	polling, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema(), Codec: noteCodec(t), PageSize: 7})
	require.NoError(t, err)
	followers := []*follower{
		{store: log.Store},
		{store: polling},
		{store: polling, filter: eventstore.Filter{Categories: []string{"soak"}, Types: []string{"note"}}},
	}
	naive := &naiveReader{log: log}
	readers, stop := context.WithCancel(ctx)
	defer stop()
	var reading errgroup.Group
	for _, f := range followers {
		reading.Go(func() error { return f.run(readers) })
	}
	reading.Go(func() error { return naive.run(readers) })

	committed := soak(ctx, t, log)

	require.NotEmpty(t, committed)
	for i, f := range followers {
		require.Eventually(t, func() bool { return f.count() >= len(committed) }, 10*time.Second, 10*time.Millisecond, "follower %d", i)
	}
	stop()
	require.NoError(t, reading.Wait())
	for i, f := range followers {
		require.Equal(t, committed, f.positions, "follower %d: every committed event once, in order", i)
		f.requireStreamOrder(t)
	}
	rerun := positionsOf(eventstoretest.Collect(t, log.All(ctx, 0, eventstore.Filter{})))
	require.Equal(t, committed, rerun, "the same order in a rerun")
	skipped := len(committed) - naive.found
	t.Logf("%d events committed, 0 skipped by %d followers; the naive reader skipped %d", len(committed), len(followers), skipped)
	require.Positive(t, skipped, "the control must fail under this load, or the load proves nothing")
}

// Guarantee 3 at the edge: the sequence is fresh, the very first append is still open when the second commits.
func TestTheFirstEventIsNotSkipped(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	slow, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	first, err := log.WithTx(slow).Append(ctx, "a-1", eventstore.NoStream, note{"1"})
	require.NoError(t, err)
	second := log.append(t, "b-1", eventstore.NoStream, note{"2"})
	require.Empty(t, eventstoretest.Collect(t, log.All(ctx, 0, eventstore.Filter{})))
	settled, err := log.Settled(ctx)
	require.NoError(t, err)
	require.Less(t, settled, first.Position())
	require.NoError(t, slow.Commit(ctx))
	require.Equal(t, []eventstore.Position{first.Position(), second.Position()}, positionsOf(eventstoretest.Collect(t, log.All(ctx, 0, eventstore.Filter{}))))
}

// soak runs the writers and returns the positions that committed, sorted.
func soak(ctx context.Context, t *testing.T, log testLog) []eventstore.Position {
	const writers, each = 16, 120
	var mu sync.Mutex
	var committed []eventstore.Position
	group, ctx := errgroup.WithContext(ctx)
	for w := range writers {
		group.Go(func() error {
			random := rand.New(rand.NewPCG(uint64(w), 42))
			for i := range each {
				positions, err := soakOnce(ctx, log, w, i, random)
				if err != nil {
					return fmt.Errorf("writer %d, append %d: %w", w, i, err)
				}
				mu.Lock()
				committed = append(committed, positions...)
				mu.Unlock()
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	slices.Sort(committed)
	return committed
}

var errRollBack = errors.New("this one is rolled back")

func soakOnce(ctx context.Context, log testLog, w, i int, random *rand.Rand) (positions []eventstore.Position, err error) {
	err = pgx.BeginFunc(ctx, log.Pool, func(tx pgx.Tx) error {
		store := log.WithTx(tx)
		one := func() error {
			receipt, err := store.Append(ctx, eventstore.StreamID(fmt.Sprintf("soak-%d-%d", w, i%5)), eventstore.Any, note{"a"}, note{"b"})
			positions = append(positions, receipt.Positions...)
			return err
		}
		if random.IntN(5) == 0 { // the first fence of the transaction goes down with a savepoint
			err := pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error {
				if _, err := log.WithTx(savepoint).Append(ctx, eventstore.StreamID(fmt.Sprintf("lost-%d-%d", w, i)), eventstore.NoStream, note{"lost"}); err != nil {
					return err
				}
				return errRollBack
			})
			if !errors.Is(err, errRollBack) {
				return err
			}
		}
		for range 1 + random.IntN(2) {
			if err := one(); err != nil {
				return err
			}
		}
		if random.IntN(4) == 0 {
			if _, err := tx.Exec(ctx, `SELECT pg_sleep($1)`, random.Float64()*0.03); err != nil {
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

// follower collects what Follow yields.
type follower struct {
	store     *eventstore.Store
	filter    eventstore.Filter
	seen      atomic.Int64
	positions []eventstore.Position
	events    []eventstore.Recorded
}

func (f *follower) count() int { return int(f.seen.Load()) }

func (f *follower) run(ctx context.Context) error {
	for event, err := range f.store.Follow(ctx, 0, f.filter) {
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
		f.positions = append(f.positions, event.Position)
		f.events = append(f.events, event)
		f.seen.Add(1)
	}
	return nil
}

func (f *follower) requireStreamOrder(t *testing.T) {
	t.Helper()
	last := map[eventstore.StreamID]eventstore.Version{}
	for _, event := range f.events {
		require.Equal(t, last[event.StreamID]+1, event.Version, "%s", event.StreamID)
		last[event.StreamID] = event.Version
	}
}

func positionsOf(events []eventstore.Recorded) []eventstore.Position {
	var out []eventstore.Position
	for _, e := range events {
		out = append(out, e.Position)
	}
	return out
}

// naiveReader is the defect of this field: it reads what is visible after the largest position it has seen.
type naiveReader struct {
	log    testLog
	cursor int64
	found  int
}

func (n *naiveReader) run(ctx context.Context) error {
	for {
		rows, err := n.log.Pool.Query(ctx, `SELECT position FROM `+n.log.Schema()+`.events WHERE position > $1 ORDER BY position`, n.cursor)
		var positions []int64
		if err == nil {
			positions, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if len(positions) > 0 {
			n.cursor = positions[len(positions)-1]
			n.found += len(positions)
		}
	}
}

// Guarantee 3: the setting that says a transaction's fence is up is not believed. Whoever forges it, inside a transaction
// that may do anything the library's role may, skips nobody past an append that is not committed.
func TestAForgedFenceHoldsAllTheSame(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	last := log.append(t, "a-1", eventstore.NoStream, note{"1"}, note{"2"}).Position()
	for _, forged := range []string{"0", "1", "2", "1000000", "-5", ""} {
		tx, err := log.Pool.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), log.sql(`SELECT set_config('hindsight.fence_' || '{{schema}}.events_position_seq'::regclass::oid, $1, true)`), forged)
		require.NoError(t, err)
		receipt, err := log.WithTx(tx).Append(t.Context(), "b-1", eventstore.NoStream, note{"slow"})
		log.append(t, "a-1", eventstore.Any, note{"fast"})
		settled, settleErr := log.Settled(t.Context())
		require.NoError(t, settleErr)
		if err == nil {
			require.Less(t, settled, receipt.Position(), "forged %q", forged)
		} else {
			require.ErrorIs(t, err, eventstore.ErrSequence, "forged %q", forged)
		}
		require.NoError(t, tx.Rollback(t.Context()))
	}
	settled, err := log.Settled(t.Context())
	require.NoError(t, err)
	require.Greater(t, settled, last)
}
