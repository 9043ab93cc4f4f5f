package eventstore_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// idAt is a version 7 id made at a time.
func idAt(t time.Time) uuid.UUID {
	id := uuid.Must(uuid.NewV7())
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(t.UnixMilli()))
	copy(id[:6], ms[2:])
	return id
}

func notesWith(ids ...uuid.UUID) []any {
	events := make([]any, len(ids))
	for i, id := range ids {
		events[i] = eventstore.Event{ID: id, Data: note{id.String()}}
	}
	return events
}

// once runs f with the store, and again with a store in a transaction, which must go on afterwards and commit.
func onceInEachWay(t *testing.T, log testLog, f func(t *testing.T, store *eventstore.Store)) {
	t.Helper()
	t.Run("with the pool", func(t *testing.T) { f(t, log.Store) })
	t.Run("in a transaction", func(t *testing.T) {
		require.NoError(t, pgx.BeginFunc(t.Context(), log.Pool, func(tx pgx.Tx) error {
			f(t, log.WithTx(tx))
			_, err := tx.Exec(t.Context(), `SELECT 1`)
			return err
		}))
	})
}

// Guarantee 11: repeated with the same ids, an append returns its first receipt and writes nothing, whatever it expected and
// whatever came after it.
func TestARepeatedAppendGivesItsFirstReceipt(t *testing.T) {
	t.Parallel()
	for _, ids := range [][]uuid.UUID{
		{uuid.Must(uuid.NewV7())},
		{uuid.Must(uuid.NewV7()), uuid.New(), uuid.Must(uuid.NewV7())},
	} {
		for name, expected := range map[string]eventstore.Expected{
			"no stream": eventstore.NoStream, "version 2": eventstore.AtVersion(2), "exists": eventstore.StreamExists, "any": eventstore.Any,
			"any, new stream": eventstore.Any,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				log := newLog(t, eventstore.Config{})
				if name != "no stream" && name != "any, new stream" {
					log.append(t, "a-1", eventstore.NoStream, note{"1"}, note{"2"})
				}
				first := log.append(t, "a-1", expected, notesWith(ids...)...)
				require.False(t, first.Repeated)
				log.append(t, "a-1", eventstore.StreamExists, note{"later"})
				before := eventstoretest.Collect(t, log.Stream(t.Context(), "a-1", 0))
				head, err := log.Head(t.Context(), "a-1")
				require.NoError(t, err)
				onceInEachWay(t, log, func(t *testing.T, store *eventstore.Store) {
					again, err := store.Append(t.Context(), "a-1", expected, notesWith(ids...)...)
					require.NoError(t, err)
					require.True(t, again.Repeated)
					again.Repeated = false
					require.Equal(t, first, again)
				})
				require.Equal(t, before, eventstoretest.Collect(t, log.Stream(t.Context(), "a-1", 0)))
				after, err := log.Head(t.Context(), "a-1")
				require.NoError(t, err)
				require.Equal(t, head, after)
			})
		}
	}
}

// Guarantee 11, across a month end: ids of version 7 by their time, others always.
func TestARepeatedAppendIsKnownInTheNextMonth(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	thisMonth := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	for name, id := range map[string]uuid.UUID{
		"version 7": idAt(thisMonth.Add(-time.Second)), "version 4": uuid.New(), "version 7 of a clock a week ahead": idAt(now.AddDate(0, 0, 7)),
	} {
		for _, expected := range []eventstore.Expected{eventstore.Any, eventstore.StreamExists, eventstore.AtVersion(1)} {
			t.Run(name+", "+expected.String(), func(t *testing.T) {
				t.Parallel()
				clock := thisMonth.Add(-time.Second)
				log := newLog(t, eventstore.Config{Clock: func() time.Time { return clock }})
				log.append(t, "a-1", eventstore.NoStream, note{"1"})
				first := log.append(t, "a-1", expected, notesWith(id)...)
				clock = thisMonth.Add(time.Second)
				log.append(t, "b-1", eventstore.NoStream, note{"the next month is there"})
				onceInEachWay(t, log, func(t *testing.T, store *eventstore.Store) {
					again, err := store.Append(t.Context(), "a-1", expected, notesWith(id)...)
					require.NoError(t, err)
					require.True(t, again.Repeated)
					require.Equal(t, first.Positions, again.Positions)
				})
				// The stream goes on as if nothing had been asked.
				require.EqualValues(t, 3, log.append(t, "a-1", eventstore.AtVersion(2), note{"3"}).Version)
				require.Len(t, eventstoretest.Collect(t, log.Stream(t.Context(), "a-1", 0)), 3)
			})
		}
	}
}

// Guarantee 11: what is neither a repetition nor new is refused by name, and nothing of it is written.
func TestAnAppendOfSomeKnownIDsIsRefused(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	a, b, c := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	log.append(t, "a-1", eventstore.NoStream, note{"1"})
	log.append(t, "a-1", eventstore.AtVersion(1), notesWith(a, b)...)
	for name, try := range map[string]struct {
		expected eventstore.Expected
		ids      []uuid.UUID
		want     error
	}{
		"one more":                      {eventstore.AtVersion(1), []uuid.UUID{a, b, c}, eventstore.ErrPartialRetry},
		"another last":                  {eventstore.AtVersion(1), []uuid.UUID{a, c}, eventstore.ErrPartialRetry},
		"others":                        {eventstore.AtVersion(1), []uuid.UUID{c}, eventstore.ErrConflict},
		"the same, another expectation": {eventstore.NoStream, []uuid.UUID{a, b}, eventstore.ErrConflict},
		"one more, any":                 {eventstore.Any, []uuid.UUID{a, b, c}, eventstore.ErrPartialRetry},
		"in another order, any":         {eventstore.Any, []uuid.UUID{b, a}, eventstore.ErrPartialRetry},
		"one more, exists":              {eventstore.StreamExists, []uuid.UUID{c, a}, eventstore.ErrPartialRetry},
	} {
		t.Run(name, func(t *testing.T) {
			onceInEachWay(t, log, func(t *testing.T, store *eventstore.Store) {
				_, err := store.Append(t.Context(), "a-1", try.expected, notesWith(try.ids...)...)
				require.ErrorIs(t, err, try.want)
			})
		})
	}
	_, err := log.Append(t.Context(), "b-1", eventstore.Any, notesWith(a)...)
	require.ErrorIs(t, err, eventstore.ErrDuplicateID, "the id is another stream's")
	require.Len(t, eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{})), 3)
	require.EqualValues(t, 4, log.append(t, "a-1", eventstore.AtVersion(3), note{"4"}).Version)
}

// A retry that has read the stream again, and so expects its own events, is known all the same.
func TestARepeatedAppendThatExpectsItself(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	id := uuid.Must(uuid.NewV7())
	first := log.append(t, "a-1", eventstore.NoStream, notesWith(id)...)
	again, err := log.Append(t.Context(), "a-1", eventstore.AtVersion(1), notesWith(id)...)
	require.NoError(t, err)
	require.True(t, again.Repeated)
	require.Equal(t, first.Positions, again.Positions)
	require.EqualValues(t, 2, log.append(t, "a-1", eventstore.AtVersion(1), note{"2"}).Version)
}
