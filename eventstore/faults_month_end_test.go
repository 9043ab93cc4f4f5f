package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
)

// monthEndRace is a race of writers of two stores on one stream while a month ends. Its clock goes on with each append, and
// now and then back, so that it does not depend on the speed of the machine.
type monthEndRace struct {
	log    testLog
	stores [2]*eventstore.Store
	calls  atomic.Int64

	mu  sync.Mutex
	won []monthEndWin
}

type monthEndWin struct {
	expected eventstore.Expected
	events   []any
	receipt  eventstore.Receipt
}

const monthEndCalls = 250 // of the clock, until the month ends

func (r *monthEndRace) clock() time.Time {
	n := r.calls.Add(1)
	at := time.Date(2031, 12, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n-monthEndCalls) * 10 * time.Millisecond)
	if n%20 == 0 {
		at = at.Add(-700 * time.Millisecond)
	}
	return at
}

// write appends in turn to the stream that all race on, at the version it reads, and to one of its own.
func (r *monthEndRace) write(t *testing.T, w int) error {
	store := r.stores[w%2]
	for n := 0; r.calls.Load() < 2*monthEndCalls; n++ {
		id := eventstore.StreamID("race-1")
		if n%3 == 0 {
			id = eventstore.StreamID(fmt.Sprintf("own-%d", w))
		}
		head, err := store.Head(t.Context(), id)
		if err != nil && !errors.Is(err, eventstore.ErrStreamNotFound) {
			return err
		}
		win := monthEndWin{expected: eventstore.AtVersion(head.Version), events: notesWith(newIDs(1 + n%2)...)}
		if n%3 == 0 && head.Version > 0 {
			win.expected = eventstore.Any // which no version tells from its repetition
		}
		win.receipt, err = store.Append(t.Context(), id, win.expected, win.events...)
		switch {
		case err == nil:
			r.mu.Lock()
			r.won = append(r.won, win)
			r.mu.Unlock()
		case !errors.Is(err, eventstore.ErrConflict):
			return err
		}
	}
	return nil
}

// Guarantees 1, 5, 11 and 12 where a month ends under two processes that race with the version they expect, the new month made
// ahead or by the first to need it: each version has one winner, recorded_at never falls, and what was written in the old
// month is known in the new one, by its ids, also within a batch.
func TestWinnersAndRepetitionsOverAMonthEnd(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]bool{"made ahead": true, "made when it is needed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &monthEndRace{}
			config := eventstore.Config{Clock: r.clock}
			r.log = newLog(t, config)
			r.stores = [2]*eventstore.Store{r.log.Store, r.log.store(t, r.log.pool(t, nil), config)}
			if ahead {
				r.log.exec(t, `SELECT {{schema}}.ensure_month('2031-12-01')`)
			}
			require.NoError(t, errors.Join(atOnce(10, func(w int) error { return r.write(t, w) })...))
			r.requireOneWinnerAVersion(t)
			months := map[time.Month]int{}
			for _, win := range r.won {
				months[win.receipt.RecordedAt.Month()]++
			}
			t.Logf("%v", months)
			require.Positive(t, months[time.November])
			require.Positive(t, months[time.December])
			errs := atOnce(len(r.won), func(i int) error {
				win := r.won[i]
				again, err := r.stores[i%2].Append(t.Context(), win.receipt.StreamID, win.expected, win.events...)
				if err == nil && (!again.Repeated || again.Version != win.receipt.Version || again.Position() != win.receipt.Position()) {
					err = fmt.Errorf("the first receipt is %+v, that of the repetition %+v", win.receipt, again)
				}
				return err
			})
			require.NoError(t, errors.Join(errs...))
			r.requireOneWinnerAVersion(t)
		})
	}
}

func (r *monthEndRace) requireOneWinnerAVersion(t *testing.T) {
	t.Helper()
	var acknowledged []eventstore.Receipt
	expected := map[eventstore.StreamID]map[eventstore.Expected]bool{}
	for _, win := range r.won {
		id := win.receipt.StreamID
		if expected[id] == nil {
			expected[id] = map[eventstore.Expected]bool{}
		}
		require.False(t, win.expected >= 0 && expected[id][win.expected], "%s: two appends have won at %s", id, win.expected)
		expected[id][win.expected] = true
		acknowledged = append(acknowledged, win.receipt)
	}
	requireOnce(t, r.log.Store, acknowledged)
	for id := range expected {
		last := time.Time{}
		for _, event := range readAll(t, r.log, id) {
			require.False(t, event.RecordedAt.Before(last), "%s: recorded_at fell at version %d", id, event.Version)
			last = event.RecordedAt
		}
	}
}

// The contract of ErrMonthClosed: a month that somebody else makes while an append looks for it is not closed. Here its look
// waits, with the snapshot it has, until the month is there.
func TestAMonthMadeMeanwhileIsNotClosed(t *testing.T) {
	t.Parallel()
	for _, events := range []int{1, 2} { // one event and several look in different statements
		t.Run(fmt.Sprint(events), func(t *testing.T) {
			t.Parallel()
			log := newLog(t, eventstore.Config{Clock: func() time.Time { return time.Date(2031, 6, 1, 0, 0, 0, 0, time.UTC) }})
			log.exec(t, `ALTER TABLE {{schema}}.months RENAME TO months_kept`)
			log.exec(t, `CREATE FUNCTION {{schema}}.pause() RETURNS boolean LANGUAGE plpgsql AS $$
				BEGIN PERFORM pg_advisory_xact_lock_shared('{{schema}}.streams'::regclass::oid::bigint); RETURN true; END $$`)
			log.exec(t, `CREATE VIEW {{schema}}.months AS SELECT * FROM {{schema}}.months_kept WHERE (SELECT {{schema}}.pause())`)
			maker, err := log.Pool.Begin(t.Context())
			require.NoError(t, err)
			defer func() { _ = maker.Rollback(context.Background()) }()
			_, err = maker.Exec(t.Context(), log.sql(`SELECT pg_advisory_xact_lock('{{schema}}.streams'::regclass::oid::bigint)`))
			require.NoError(t, err)
			done := make(chan error, 1)
			go func() {
				_, err := log.Append(t.Context(), "a-1", eventstore.NoStream, notesWith(newIDs(events)...)...)
				done <- err
			}()
			require.Eventually(t, func() bool {
				var waiting bool
				err := log.Pool.QueryRow(t.Context(), log.sql(`SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
					AND objid = '{{schema}}.streams'::regclass::oid)`)).Scan(&waiting)
				return err == nil && waiting
			}, 20*time.Second, 2*time.Millisecond)
			_, err = maker.Exec(t.Context(), log.sql(`SELECT {{schema}}.ensure_month('2031-06-01')`))
			require.NoError(t, err)
			require.NoError(t, maker.Commit(t.Context()))
			require.NoError(t, <-done)
		})
	}
}
