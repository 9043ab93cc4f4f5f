package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
)

// Guarantees 1, 2 and 11 over connections that are cut at random bytes, before, within and after the commits: writers that
// repeat what was not answered, with the ids they are told, get every append into the log exactly once, and the receipt of
// the one that is there.
func TestConnectionsCutAtRandomBytes(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	log := newLog(t, eventstore.Config{})
	cut := &cutter{random: rand.New(rand.NewPCG(seed, 1))}
	store := log.store(t, log.pool(t, cut.wrap), eventstore.Config{})
	ctx := testContext(t, 2*time.Minute)
	const writers, rounds = 12, 25
	hands := make([]insistent, writers)
	errs := atOnce(writers, func(w int) error {
		hands[w].store = func() *eventstore.Store { return store }
		random := rand.New(rand.NewPCG(seed, uint64(w+2)))
		own, version := eventstore.StreamID(fmt.Sprintf("own-%d", w)), eventstore.Version(0)
		for round := range rounds {
			appends := faultyAppends(random, w, round, own, version)
			receipts, err := hands[w].append(ctx, appends...)
			if err != nil { // no other writer is on these versions, so a conflict is one with itself
				return fmt.Errorf("writer %d, round %d, %v: %w", w, round, appends, err)
			}
			if receipts[0].StreamID == own {
				if version += eventstore.Version(len(appends[0].Events)); receipts[0].Version != version {
					return fmt.Errorf("%s: receipt of version %d, want %d", own, receipts[0].Version, version)
				}
			}
		}
		return nil
	})
	require.NoError(t, errors.Join(errs...))
	var acknowledged []eventstore.Receipt
	repetitions, found := 0, 0
	for _, hand := range hands {
		acknowledged = append(acknowledged, hand.acknowledged...)
		repetitions, found = repetitions+hand.repetitions, found+hand.found
	}
	requireOnce(t, log.Store, acknowledged)
	t.Logf("%d cuts, %d of them in the answer to a committed append; %d repetitions by the writers, %d of which found their event in the log",
		cut.cuts.Load(), cut.unread.Load(), repetitions, found)
	require.Positive(t, cut.unread.Load(), "no answer was lost after the commit")
	require.Positive(t, repetitions, "no outcome was left to a writer")
}

// faultyAppends is a writer's next call: on a stream of its own at the version it knows, on a new one, on a shared one, or on
// all three at once.
func faultyAppends(random *rand.Rand, w, round int, own eventstore.StreamID, version eventstore.Version) []eventstore.StreamAppend {
	events := make([]any, 1+random.IntN(3))
	for i := range events {
		events[i] = note{fmt.Sprintf("%d.%d.%d", w, round, i)}
	}
	all := []eventstore.StreamAppend{
		{StreamID: own, Expected: eventstore.AtVersion(version), Events: events},
		{StreamID: eventstore.StreamID(fmt.Sprintf("new-%d-%d", w, round)), Expected: eventstore.NoStream, Events: events},
		{StreamID: eventstore.StreamID(fmt.Sprintf("shared-%d", random.IntN(3))), Expected: eventstore.Any, Events: events},
	}
	if i := random.IntN(4); i < len(all) {
		return all[i : i+1]
	}
	return all
}

// Guarantee 2 and the contract of ErrConflict: a conflict that is reported was one. A stream that reaches the expected
// version just after the append looked at it is a race, which the store repeats.
func TestAConflictIsNotWithTheVersionExpected(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	log.append(t, "a-1", eventstore.NoStream, note{"1"})
	tx, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(ctx, log.sql(`LOCK TABLE {{schema}}.events IN ACCESS EXCLUSIVE MODE`)) // between its look and its answer
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := log.Append(ctx, "a-1", eventstore.AtVersion(2), note{"3"})
		done <- err
	}()
	require.Eventually(t, func() bool {
		var waiting bool
		err := log.Pool.QueryRow(ctx, log.sql(`SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted
			AND relation = '{{schema}}.events'::regclass)`)).Scan(&waiting)
		return err == nil && waiting
	}, 20*time.Second, 5*time.Millisecond)
	_, err = log.WithTx(tx).Append(ctx, "a-1", eventstore.AtVersion(1), note{"2"})
	require.NoError(t, err)
	require.NoError(t, tx.Commit(ctx))
	var conflict *eventstore.ConflictError
	if err := <-done; errors.As(err, &conflict) {
		require.NotEqual(t, eventstore.Version(conflict.Expected), conflict.Actual, "%v", err)
	} else {
		require.NoError(t, err)
	}
}

// Guarantee 11, over many streams: one that holds some of its ids only is named, wherever it stands among the others.
func TestAPartlyKnownStreamAmongKnownOnesIsRefused(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	appends := make([]eventstore.StreamAppend, 3)
	for i := range appends {
		id := stream(i)
		events := notesWith(idAt(time.Now()))
		log.append(t, id, eventstore.NoStream, events...)
		appends[i] = eventstore.StreamAppend{StreamID: id, Expected: eventstore.AtVersion(1), Events: events}
	}
	for i := range appends {
		again := append([]eventstore.StreamAppend(nil), appends...)
		again[i].Events = append(again[i].Events[:1:1], note{"new"})
		_, err := log.AppendMany(t.Context(), again...)
		require.ErrorIs(t, err, eventstore.ErrPartialRetry, "stream %d", i)
	}
}
