package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// atOnce calls f for 0 to n-1 at once and returns the errors.
func atOnce(n int, f func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

func (l testLog) commits(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, l.Pool.QueryRow(t.Context(), l.sql(`SELECT count(DISTINCT xmin::text) FROM {{schema}}.events`)).Scan(&n))
	return n
}

// Guarantees 1 and 12: appends that run at once share commits, and each gets the verdict it would get alone.
func TestConcurrentAppendsShareCommitsNotVerdicts(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	const n = 120
	elsewhere := uuid.Must(uuid.NewV7())
	log.append(t, "other-1", eventstore.NoStream, notesWith(elsewhere)...)
	for i := range n {
		if i%2 == 0 {
			log.append(t, stream(i), eventstore.NoStream, note{"1"})
		}
	}
	before := log.commits(t)
	receipts := make([]eventstore.Receipt, n)
	errs := atOnce(n, func(i int) (err error) {
		expected := eventstore.AtVersion(1) // odd streams are not there
		event := eventstore.Event{Data: note{fmt.Sprint(i)}}
		switch i % 12 {
		case 1, 3:
			expected = eventstore.NoStream
		case 5, 6:
			expected = eventstore.Any
		case 8:
			event.ID = elsewhere
		}
		receipts[i], err = log.Append(t.Context(), stream(i), expected, event, note{"and one more"})
		return err
	})
	for i, err := range errs {
		head, _ := log.Head(t.Context(), stream(i))
		begun := eventstore.Version(1 - i%2)
		switch {
		case i%12 == 8:
			require.ErrorIs(t, err, eventstore.ErrDuplicateID, "append %d", i)
		case i%2 == 1 && i%12 > 5:
			require.ErrorIs(t, err, eventstore.ErrConflict, "append %d", i)
		default:
			require.NoError(t, err, "append %d", i)
			require.Equal(t, begun+2, receipts[i].Version)
			begun += 2
			events := eventstoretest.Collect(t, log.Stream(t.Context(), stream(i), begun-2))
			require.Len(t, events, 2)
			for j, event := range events {
				require.Equal(t, receipts[i].Positions[j], event.Position)
				require.Equal(t, receipts[i].EventIDs[j], event.ID)
				require.Equal(t, receipts[i].RecordedAt, event.RecordedAt)
			}
		}
		require.Equal(t, begun, head.Version, "append %d", i)
	}
	require.Less(t, log.commits(t)-before, n*3/4, "appends share commits")
}

func stream(i int) eventstore.StreamID { return eventstore.StreamID(fmt.Sprintf("group-%d", i)) }

// Guarantee 1: appends to one stream at once follow each other; of those that expect one version, one wins.
func TestConcurrentAppendsToOneStream(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	for _, err := range atOnce(60, func(int) error {
		_, err := log.Append(t.Context(), "a-1", eventstore.Any, note{"x"})
		return err
	}) {
		require.NoError(t, err)
	}
	require.Len(t, eventstoretest.Collect(t, log.Stream(t.Context(), "a-1", 0)), 60)
	won := 0
	for _, err := range atOnce(60, func(int) error {
		_, err := log.Append(t.Context(), "a-1", eventstore.AtVersion(60), note{"x"})
		return err
	}) {
		if err == nil {
			won++
		} else {
			require.ErrorIs(t, err, eventstore.ErrConflict)
		}
	}
	require.Equal(t, 1, won)
}

// Guarantee 12: appends of one process to one stream take turns, in batches of one each. Two in one batch would fail the whole
// batch, and the positions it had taken would be holes.
func TestABatchHoldsOneAppendAStream(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	for _, err := range atOnce(200, func(i int) error {
		_, err := log.Append(t.Context(), stream(i%10), eventstore.Any, note{"x"})
		return err
	}) {
		require.NoError(t, err)
	}
	events := eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{}))
	require.Len(t, events, 200)
	require.EqualValues(t, 200, events[199].Position, "an append that failed has left a hole")
	require.Less(t, log.commits(t), 150)
}

// Guarantee 12: whoever waits for a head that another session holds waits alone, and its cancelled wait leaves nothing.
func TestAHeldHeadDelaysItsStreamAlone(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	for i := range 4 {
		log.append(t, stream(i), eventstore.NoStream, note{"1"})
	}
	holder, err := log.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = holder.Rollback(context.Background()) }()
	_, err = holder.Exec(t.Context(), log.sql(`SELECT FROM {{schema}}.streams WHERE stream_id IN ('group-0', 'group-1', 'group-2', 'group-3') FOR UPDATE`))
	require.NoError(t, err)
	_, err = holder.Exec(t.Context(), log.sql(`INSERT INTO {{schema}}.streams (stream_id, version, first_recorded_at, last_recorded_at)
		VALUES ('group-4', 1, now(), now())`)) // begun, not committed
	require.NoError(t, err)
	waiting, cancel := context.WithCancel(t.Context())
	held := make(chan error, 10)
	for i := range 10 { // more than there are lanes
		go func() {
			_, err := log.Append(waiting, stream(i%5), eventstore.Any, note{"held"})
			held <- err
		}()
	}
	require.Eventually(t, func() bool { // both lanes are taken, and wait
		var n int
		err := log.Pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%' || $1::text || '%append(%'`,
			log.Schema()).Scan(&n)
		return err == nil && n >= 2
	}, 20*time.Second, 5*time.Millisecond)
	for round := range 5 {
		for i, err := range atOnce(20, func(i int) error {
			_, err := log.Append(testContext(t, 20*time.Second), stream(100+i), eventstore.Any, note{"free"})
			return err
		}) {
			require.NoError(t, err, "round %d, append %d", round, i)
		}
	}
	require.Empty(t, held)
	cancel()
	for range 10 {
		require.ErrorIs(t, <-held, context.Canceled)
	}
	require.NoError(t, holder.Rollback(t.Context()))
	for i := range 5 { // no lock is left
		_, err := log.Append(testContext(t, 20*time.Second), stream(i), eventstore.Any, note{"after"})
		require.NoError(t, err)
		require.NoError(t, firstError(log.Stream(t.Context(), stream(i), 0)))
	}
}

// Guarantee 12: a caller that stops waiting does not stop the others of its batch, and learns what it may assume.
func TestACancelledCallerDoesNotCancelItsBatch(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	for round := range 20 {
		errs := atOnce(40, func(i int) error {
			ctx := t.Context()
			if i%4 == 0 {
				short, cancel := context.WithTimeout(ctx, time.Duration(i*round)*20*time.Microsecond)
				defer cancel()
				ctx = short
			}
			_, err := log.Append(ctx, stream(round*100+i), eventstore.NoStream, note{"x"})
			return err
		})
		for i, err := range errs {
			id := stream(round*100 + i)
			var unknown *eventstore.OutcomeUnknownError
			switch {
			case err == nil:
				require.Len(t, eventstoretest.Collect(t, log.Stream(t.Context(), id, 0)), 1)
			case errors.As(err, &unknown): // the truth is one retry away
				require.Zero(t, i%4, "append %d: %v", i, err)
				receipt, err := log.Append(t.Context(), id, eventstore.NoStream, eventstore.Event{ID: unknown.EventIDs[0], Data: note{"x"}})
				require.NoError(t, err)
				require.EqualValues(t, 1, receipt.Version)
				require.Len(t, eventstoretest.Collect(t, log.Stream(t.Context(), id, 0)), 1)
			default: // it was still waiting for its turn
				require.Zero(t, i%4, "append %d: %v", i, err)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				_, err := log.Head(t.Context(), id)
				require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
			}
		}
	}
}

// A missing month is made once for all who need it.
func TestConcurrentAppendsInAMissingMonth(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{Clock: func() time.Time { return time.Date(2032, 7, 1, 0, 0, 0, 0, time.UTC) }})
	for i, err := range atOnce(50, func(i int) error {
		_, err := log.Append(t.Context(), stream(i), eventstore.NoStream, note{"x"})
		return err
	}) {
		require.NoError(t, err, "append %d", i)
	}
	require.Len(t, eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{})), 50)
}

// Guarantee 11: a connection lost under a batch is not its callers' concern: each append is in the log once.
func TestALostBatchIsRepeatedByItsIDs(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	stop := make(chan struct{})
	var killer sync.WaitGroup
	killed := 0
	killer.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(3 * time.Millisecond):
			}
			var n int
			_ = log.Pool.QueryRow(context.Background(), `SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE query LIKE '%' || $1::text || '%append_group(%' AND state = 'active' AND pid <> pg_backend_pid()`, log.Schema()).Scan(&n)
			killed += n
		}
	})
	const writers, rounds = 24, 30
	unknown := make([]int, writers)
	errs := atOnce(writers, func(w int) error {
		for round := range rounds {
			id := uuid.Must(uuid.NewV7())
			for try := 0; ; try++ {
				receipt, err := log.Append(t.Context(), stream(w), eventstore.Any, eventstore.Event{ID: id, Data: note{fmt.Sprint(round)}})
				if err == nil {
					if int(receipt.Version) != round+1 {
						return fmt.Errorf("writer %d, round %d: version %d", w, round, receipt.Version)
					}
					break
				}
				if !errors.Is(err, eventstore.ErrOutcomeUnknown) && !eventstore.Retryable(err) || try > 20 {
					return err
				}
				unknown[w]++
			}
		}
		return nil
	})
	close(stop)
	killer.Wait()
	require.NoError(t, errors.Join(errs...))
	require.Positive(t, killed, "no batch was hit")
	for w := range writers {
		events := eventstoretest.Collect(t, log.Stream(t.Context(), stream(w), 0))
		require.Len(t, events, rounds)
		for round, event := range events {
			require.Equal(t, note{fmt.Sprint(round)}, event.Data)
		}
	}
	t.Logf("%d batches killed; outcomes left to the callers: %v", killed, unknown)
}
