package eventstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// Guarantee 2, over many streams: together, at one time, in the order asked for.
func TestAppendManyWritesAllStreams(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	log.append(t, "b-1", eventstore.NoStream, note{"1"})
	receipts, err := log.AppendMany(t.Context(),
		eventstore.StreamAppend{StreamID: "c-1", Expected: eventstore.NoStream, Events: []any{note{"1"}, note{"2"}}},
		eventstore.StreamAppend{StreamID: "b-1", Expected: eventstore.AtVersion(1), Events: []any{note{"2"}}},
		eventstore.StreamAppend{StreamID: "a-1", Expected: eventstore.Any, Events: []any{note{"1"}, note{"2"}, note{"3"}}})
	require.NoError(t, err)
	require.Len(t, receipts, 3)
	for i, want := range []struct {
		id      eventstore.StreamID
		version eventstore.Version
		events  int
	}{{"c-1", 2, 2}, {"b-1", 2, 1}, {"a-1", 3, 3}} {
		require.Equal(t, want.id, receipts[i].StreamID)
		require.Equal(t, want.version, receipts[i].Version)
		require.Equal(t, receipts[0].RecordedAt, receipts[i].RecordedAt)
		require.False(t, receipts[i].Repeated)
		events := eventstoretest.Collect(t, log.Stream(t.Context(), want.id, want.version-eventstore.Version(want.events)))
		require.Len(t, events, want.events)
		for n, event := range events {
			require.Equal(t, receipts[i].Positions[n], event.Position)
			require.Equal(t, receipts[i].EventIDs[n], event.ID)
			require.Equal(t, receipts[i].RecordedAt, event.RecordedAt)
		}
	}
	var commits int
	require.NoError(t, log.Pool.QueryRow(t.Context(), log.sql(
		`SELECT count(DISTINCT xmin::text) FROM {{schema}}.events WHERE recorded_at = $1`), receipts[0].RecordedAt).Scan(&commits))
	require.Equal(t, 1, commits)
}

// Guarantee 2: one stream that is not as expected, and nothing is written to any; the transaction goes on, and holds none of
// their heads.
func TestAppendManyRefusedWritesNothing(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	log.append(t, "b-1", eventstore.NoStream, note{"1"})
	log.append(t, "c-1", eventstore.NoStream, note{"1"})
	onceInEachWay(t, log, func(t *testing.T, store *eventstore.Store) {
		_, err := store.AppendMany(t.Context(),
			eventstore.StreamAppend{StreamID: "c-1", Expected: eventstore.AtVersion(7), Events: []any{note{"no"}}},
			eventstore.StreamAppend{StreamID: "b-1", Expected: eventstore.AtVersion(1), Events: []any{note{"no"}}},
			eventstore.StreamAppend{StreamID: "a-1", Expected: eventstore.NoStream, Events: []any{note{"no"}}})
		var conflict *eventstore.ConflictError
		require.ErrorAs(t, err, &conflict)
		require.Equal(t, &eventstore.ConflictError{StreamID: "c-1", Expected: 7, Actual: 1}, conflict)
		_, err = log.Pool.Exec(t.Context(), log.sql(`SELECT FROM {{schema}}.streams FOR UPDATE NOWAIT`))
		require.NoError(t, err, "a refused append holds a head")
	})
	require.Len(t, eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{})), 2)
	require.EqualValues(t, 2, log.append(t, "b-1", eventstore.AtVersion(1), note{"2"}).Version)
	_, err := log.Head(t.Context(), "a-1")
	require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
}

// Guarantee 11, over many streams.
func TestAppendManyRepeated(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	log.append(t, "c-1", eventstore.NoStream, note{"1"})
	a, b, c := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	appends := []eventstore.StreamAppend{
		{StreamID: "a-1", Expected: eventstore.NoStream, Events: notesWith(a)},
		{StreamID: "b-1", Expected: eventstore.Any, Events: notesWith(b)},
		{StreamID: "c-1", Expected: eventstore.AtVersion(1), Events: notesWith(c)},
	}
	first, err := log.AppendMany(t.Context(), appends...)
	require.NoError(t, err)
	onceInEachWay(t, log, func(t *testing.T, store *eventstore.Store) {
		again, err := store.AppendMany(t.Context(), appends...)
		require.NoError(t, err)
		for i := range again {
			require.True(t, again[i].Repeated)
			again[i].Repeated = false
		}
		require.Equal(t, first, again)
		_, err = store.AppendMany(t.Context(), appends[0], eventstore.StreamAppend{StreamID: "d-1", Events: []any{note{"new"}}})
		require.ErrorIs(t, err, eventstore.ErrPartialRetry)
	})
	require.Len(t, eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{})), 4)
}

// Guarantees 1 and 2: racing appends to overlapping streams neither deadlock nor tear; what one wrote stands together.
func TestRacingAppendMany(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	const writers, rounds = 6, 15
	ctx := testContext(t, time.Minute)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for round := range rounds {
				text := note{fmt.Sprintf("%d.%d", w, round)}
				var appends []eventstore.StreamAppend
				for i := range 3 { // in another order each time
					id := eventstore.StreamID(fmt.Sprintf("s-%d", (w+round+2*i)%5))
					appends = append(appends, eventstore.StreamAppend{StreamID: id, Expected: eventstore.Any, Events: []any{text, text}})
				}
				if _, err := log.AppendMany(ctx, appends...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	seen := map[note]map[time.Time]int{}
	for event, err := range log.All(ctx, 0, eventstore.Filter{}) {
		require.NoError(t, err)
		text := event.Data.(note)
		if seen[text] == nil {
			seen[text] = map[time.Time]int{}
		}
		seen[text][event.RecordedAt]++
	}
	require.Len(t, seen, writers*rounds)
	for text, times := range seen {
		require.Len(t, times, 1, "%v was recorded at one time", text)
		for _, n := range times {
			require.Equal(t, 6, n)
		}
	}
	for i := range 5 {
		require.NoError(t, firstError(log.Stream(ctx, eventstore.StreamID(fmt.Sprintf("s-%d", i)), 0)))
	}
}

func TestAppendManyMakesItsMonth(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{Clock: func() time.Time { return time.Date(2031, 3, 4, 5, 6, 7, 0, time.UTC) }})
	receipts, err := log.AppendMany(t.Context(), eventstore.StreamAppend{StreamID: "a-1", Events: []any{note{"1"}}},
		eventstore.StreamAppend{StreamID: "b-1", Events: []any{note{"1"}}})
	require.NoError(t, err)
	require.Len(t, receipts, 2)
	require.Equal(t, 2031, receipts[1].RecordedAt.Year())
}

func TestAppendManyRefusesBadCalls(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	many := make([]any, eventstore.MaxEventsPerAppend/2+1)
	for i := range many {
		many[i] = note{"x"}
	}
	for name, appends := range map[string][]eventstore.StreamAppend{
		"none":             {},
		"a stream twice":   {{StreamID: "a-1", Events: []any{note{"1"}}}, {StreamID: "a-1", Events: []any{note{"2"}}}},
		"no events":        {{StreamID: "a-1", Events: []any{note{"1"}}}, {StreamID: "b-1"}},
		"a bad id":         {{StreamID: "a-1", Events: []any{note{"1"}}}, {StreamID: "b", Events: []any{note{"2"}}}},
		"too many in all":  {{StreamID: "a-1", Events: many}, {StreamID: "b-1", Events: many}},
		"a bad event last": {{StreamID: "a-1", Events: []any{note{"1"}}}, {StreamID: "b-1", Events: []any{nil}}},
	} {
		_, err := log.AppendMany(t.Context(), appends...)
		require.ErrorIs(t, err, eventstore.ErrInvalid, name)
	}
	require.Empty(t, eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{})))
}

// A stream far ahead of the clock refuses the whole, by name.
func TestAppendManyAheadOfTheClock(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 10, 12, 0, 0, 0, time.UTC)
	log := newLog(t, eventstore.Config{Clock: func() time.Time { return now }})
	log.append(t, "b-1", eventstore.NoStream, note{"1"})
	two := []eventstore.StreamAppend{{StreamID: "a-1", Events: []any{note{"1"}}}, {StreamID: "b-1", Expected: 1, Events: []any{note{"2"}}}}
	now = now.Add(-2 * time.Minute)
	_, err := log.AppendMany(t.Context(), two...)
	require.ErrorIs(t, err, eventstore.ErrClock)
	now = now.Add(90 * time.Second)
	receipts, err := log.AppendMany(t.Context(), two...)
	require.NoError(t, err)
	require.Equal(t, now.Add(30*time.Second), receipts[0].RecordedAt, "both at the time of the stream that is ahead")
}

// A caller's transaction commits its appends to many streams with its own rows.
func TestAppendManyInATransaction(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	two := []eventstore.StreamAppend{{StreamID: "a-1", Events: []any{note{"1"}}}, {StreamID: "b-1", Events: []any{note{"1"}}}}
	tx, err := log.Pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = log.WithTx(tx).AppendMany(t.Context(), two...)
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, pgx.BeginFunc(context.Background(), log.Pool, func(tx pgx.Tx) error {
		_, err := log.WithTx(tx).AppendMany(t.Context(), two...)
		return err
	}))
	require.Len(t, eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{})), 2)
}
