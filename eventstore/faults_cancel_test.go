package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
)

// cancelMoment is where in a read or write the context ends.
type cancelMoment string

const (
	cancelBefore  cancelMoment = "before"
	cancelBetween cancelMoment = "between the arrival of the bytes and their reading"
	cancelAfter   cancelMoment = "after"
)

// stepper cancels a context at the n-th read or write of a pool's connections.
type stepper struct {
	mu     sync.Mutex
	left   int // steps before that one
	moment cancelMoment
	cancel context.CancelFunc
	fired  bool
}

// due says once that a step is the one.
func (s *stepper) due() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left--
	if s.left >= 0 || s.fired {
		return false
	}
	s.fired = true
	return true
}

func (s *stepper) wrap(conn net.Conn) net.Conn {
	return &stepConn{Conn: conn, stepper: s, over: make(chan struct{})}
}

type stepConn struct {
	net.Conn
	stepper *stepper
	once    sync.Once
	over    chan struct{} // closed when the driver has noticed that the context ended
}

func (c *stepConn) SetDeadline(t time.Time) error {
	err := c.Conn.SetDeadline(t)
	if !t.IsZero() {
		c.once.Do(func() { close(c.over) })
	}
	return err
}

// cancel ends the context and lets the driver notice; while it connects in the background it does not watch.
func (c *stepConn) cancel() {
	c.stepper.cancel()
	select {
	case <-c.over:
	case <-time.After(20 * time.Millisecond):
	}
}

func (c *stepConn) step(b []byte, do func([]byte) (int, error), reads bool) (int, error) {
	if !c.stepper.due() {
		return do(b)
	}
	if c.stepper.moment == cancelBefore {
		c.cancel()
		return do(b)
	}
	n, err := do(b)
	c.cancel()
	if reads && c.stepper.moment == cancelBetween && err == nil {
		return 0, os.ErrDeadlineExceeded // as a connection answers whose deadline passed before the bytes were fetched
	}
	return n, err
}

func (c *stepConn) Read(b []byte) (int, error)  { return c.step(b, c.Conn.Read, true) }
func (c *stepConn) Write(b []byte) (int, error) { return c.step(b, c.Conn.Write, false) }

// cancelledAppend is a way to append whose context ends somewhere.
type cancelledAppend struct {
	name    string
	begin   bool // the streams but the last have two events each
	inTx    bool
	appends func(ids []eventstore.StreamID) []eventstore.StreamAppend
}

func cancelledAppends() []cancelledAppend {
	one := func(expected eventstore.Expected, events int) func([]eventstore.StreamID) []eventstore.StreamAppend {
		return func(ids []eventstore.StreamID) []eventstore.StreamAppend {
			return []eventstore.StreamAppend{{StreamID: ids[0], Expected: expected, Events: notesWith(newIDs(events)...)}}
		}
	}
	many := func(ids []eventstore.StreamID) []eventstore.StreamAppend {
		return []eventstore.StreamAppend{
			{StreamID: ids[2], Expected: eventstore.NoStream, Events: notesWith(newIDs(2)...)},
			{StreamID: ids[1], Expected: eventstore.Any, Events: notesWith(newIDs(1)...)},
			{StreamID: ids[0], Expected: eventstore.AtVersion(2), Events: notesWith(newIDs(3)...)},
		}
	}
	return []cancelledAppend{
		{"a new stream", false, false, one(eventstore.NoStream, 1)},
		{"a version, three events", true, false, one(eventstore.AtVersion(2), 3)},
		{"any version", true, false, one(eventstore.Any, 1)},
		{"many streams", true, false, many},
		{"many streams in a transaction", true, true, many},
		{"in a transaction", true, true, one(eventstore.StreamExists, 2)},
	}
}

func newIDs(n int) []uuid.UUID {
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = uuid.Must(uuid.NewV7())
	}
	return ids
}

func idsOf(appends []eventstore.StreamAppend) (ids []uuid.UUID) {
	for _, a := range appends {
		for _, event := range a.Events {
			ids = append(ids, event.(eventstore.Event).ID)
		}
	}
	return ids
}

// run appends, within a transaction if need be; committing says that its commit was tried.
func (c cancelledAppend) run(ctx context.Context, pool *pgxpool.Pool, store *eventstore.Store, appends []eventstore.StreamAppend) (receipts []eventstore.Receipt, committing bool, err error) {
	if !c.inTx {
		receipts, err = appendTo(ctx, store, appends)
		return receipts, false, err
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		receipts, err = appendTo(ctx, store.WithTx(tx), appends)
		committing = err == nil
		return err
	})
	return receipts, committing, err
}

func appendTo(ctx context.Context, store *eventstore.Store, appends []eventstore.StreamAppend) ([]eventstore.Receipt, error) {
	if len(appends) > 1 {
		return store.AppendMany(ctx, appends...)
	}
	receipt, err := store.Append(ctx, appends[0].StreamID, appends[0].Expected, appends[0].Events...)
	return []eventstore.Receipt{receipt}, err
}

// outcomes counts what became of cancelled appends.
type outcomes struct{ done, unknownWritten, unknownNot, refused int }

// Guarantees 2 and 11 where the context ends at any read or write of the connection: all of an append's events are in the log
// or none; no lock is left; an error that does not say that the outcome is unknown has written nothing; and the same ids give
// the one true receipt.
func TestAContextThatEndsAtAnyStep(t *testing.T) {
	t.Parallel()
	for _, way := range cancelledAppends() {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			log := newLog(t, eventstore.Config{})
			var count outcomes
			for _, moment := range []cancelMoment{cancelBefore, cancelBetween, cancelAfter} {
				step := 0
				for ; cancelAtStep(t, log, way, &stepper{left: step, moment: moment}, &count); step++ {
					require.Less(t, step, 100)
				}
				require.Greater(t, step, 3, "connecting, asking and answering are steps")
			}
			t.Logf("%+v", count)
			require.Positive(t, count.refused)
			if !way.inTx {
				require.Positive(t, count.unknownWritten, "no answer was lost after the commit")
				require.Positive(t, count.unknownNot, "no append was stopped while its outcome was open")
			}
		})
	}
}

// cancelAtStep runs an append through a new pool and shows what is left of it; false says that it ended before the step.
func cancelAtStep(t *testing.T, log testLog, way cancelledAppend, at *stepper, count *outcomes) bool {
	t.Helper()
	what := fmt.Sprintf("cancelled %s step %d", at.moment, at.left)
	ids := []eventstore.StreamID{eventstore.NewStreamID("a"), eventstore.NewStreamID("b"), eventstore.NewStreamID("c")}
	if way.begin {
		for _, id := range ids[:2] {
			log.append(t, id, eventstore.NoStream, note{"1"}, note{"2"})
		}
	}
	appends := way.appends(ids)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	at.cancel = cancel
	pool := log.pool(t, at.wrap)
	defer pool.Close()
	receipts, committing, err := way.run(ctx, pool, log.store(t, pool, eventstore.Config{}), appends)
	at.mu.Lock()
	fired := at.fired
	at.mu.Unlock()
	checkCancelled(t, log, what, appends, err, committing, count)
	again, _, retryErr := way.run(t.Context(), log.Pool, log.Store, appends)
	require.NoError(t, retryErr, what)
	for i := range again {
		if err == nil {
			require.True(t, again[i].Repeated, what)
			again[i].Repeated = false
			require.Equal(t, receipts[i], again[i], what)
		}
		require.Len(t, readAll(t, log, again[i].StreamID), int(again[i].Version), what)
	}
	require.Equal(t, len(idsOf(appends)), log.countIDs(t, idsOf(appends)), what)
	return fired
}

// checkCancelled shows that what an append's error says is true, and that nothing of the append is under way any more.
func checkCancelled(t *testing.T, log testLog, what string, appends []eventstore.StreamAppend, err error, committing bool, count *outcomes) {
	t.Helper()
	log.requireQuiet(t, appends)
	written := log.countIDs(t, idsOf(appends))
	require.Contains(t, []int{0, len(idsOf(appends))}, written, "%s: a part of the append is in the log: %v", what, err)
	var unknown *eventstore.OutcomeUnknownError
	switch {
	case err == nil:
		count.done++
		require.Positive(t, written, what)
	case errors.As(err, &unknown):
		require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown, what)
		_, missing := withIDs(appends, unknown)
		require.NoError(t, missing, what)
		if written > 0 {
			count.unknownWritten++
		} else {
			count.unknownNot++
		}
	case committing: // the caller's own commit, and its to find out
	default:
		count.refused++
		require.NotErrorIs(t, err, eventstore.ErrOutcomeUnknown, "%s: without the ids", what)
		require.Zero(t, written, "%s: written in spite of: %v", what, err)
	}
}

// requireQuiet waits until no session appends any more: the server needs a moment to notice that a client is gone. Then
// nobody may hold a head, and the settled position must reach the last one.
func (l testLog) requireQuiet(t *testing.T, appends []eventstore.StreamAppend) {
	t.Helper()
	ids := make([]string, len(appends))
	for i, a := range appends {
		ids[i] = string(a.StreamID)
	}
	var err error
	require.Eventually(t, func() bool {
		var busy bool
		if err = l.Pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state <> 'idle'
			AND query LIKE '%' || $1::text || '%append%')`, l.Schema()).Scan(&busy); err != nil || busy {
			return false
		}
		if _, err = l.Pool.Exec(t.Context(), l.sql(`SELECT FROM {{schema}}.streams WHERE stream_id = ANY ($1) FOR UPDATE NOWAIT`), ids); err != nil {
			return false
		}
		var last eventstore.Position
		if err = l.Pool.QueryRow(t.Context(), l.sql(`SELECT {{schema}}.last_position()`)).Scan(&last); err != nil {
			return false
		}
		var settled eventstore.Position
		settled, err = l.Settled(t.Context())
		return err == nil && settled >= last
	}, 20*time.Second, 2*time.Millisecond, "a cancelled append holds a lock or a fence: %v", err)
}

func (l testLog) countIDs(t *testing.T, ids []uuid.UUID) (n int) {
	t.Helper()
	texts := make([]string, len(ids)) // pgx knows no array of UUIDs where it does not ask the server, as behind a pooler
	for i, id := range ids {
		texts[i] = id.String()
	}
	require.NoError(t, l.Pool.QueryRow(t.Context(), l.sql(`SELECT count(*) FROM {{schema}}.events WHERE event_id = ANY ($1::text[]::uuid[])`), texts).Scan(&n))
	return n
}

func readAll(t *testing.T, log testLog, id eventstore.StreamID) (events []eventstore.Recorded) {
	t.Helper()
	for event, err := range log.Stream(t.Context(), id, 0) {
		require.NoError(t, err)
		events = append(events, event)
	}
	return events
}

// The same where the month must be made first, in a transaction of its own; each step has a month that nobody has made.
func TestAContextThatEndsWhileTheMonthIsMade(t *testing.T) {
	t.Parallel()
	month := time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
	config := eventstore.Config{Clock: func() time.Time { return month }}
	log := newLog(t, config)
	var count outcomes
	for _, moment := range []cancelMoment{cancelBefore, cancelBetween} {
		for step, fired := 0, true; fired; step++ {
			require.Less(t, step, 100)
			month = month.AddDate(0, 1, 0)
			at := &stepper{left: step, moment: moment}
			ctx, cancel := context.WithCancel(t.Context())
			at.cancel = cancel
			pool := log.pool(t, at.wrap)
			id := eventstore.NewStreamID("a")
			appends := []eventstore.StreamAppend{{StreamID: id, Expected: eventstore.NoStream, Events: notesWith(newIDs(2)...)}}
			_, err := appendTo(ctx, log.store(t, pool, config), appends)
			pool.Close()
			cancel()
			checkCancelled(t, log, fmt.Sprintf("cancelled %s step %d", moment, step), appends, err, false, &count)
			receipt := log.append(t, id, eventstore.NoStream, appends[0].Events...)
			require.EqualValues(t, 2, receipt.Version)
			require.Len(t, readAll(t, log, id), 2)
			fired = at.fired
		}
	}
	t.Logf("%+v", count)
	require.Positive(t, count.refused)
	require.Positive(t, count.unknownWritten)
}

// Guarantees 2, 11 and 12: contexts that end at random moments under appends that wait for each other, alone, in batches and to
// many streams.
func TestContextsThatEndAtRandomMoments(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	log := newLog(t, eventstore.Config{})
	var count outcomes
	const rounds, writers = 12, 10
	logical := make([][]eventstore.StreamAppend, rounds*writers)
	for round := range rounds {
		errs := atOnce(writers, func(w int) error {
			random := rand.New(rand.NewPCG(seed, uint64(round*writers+w)))
			appends := make([]eventstore.StreamAppend, 1+w%2*2)
			for i := range appends {
				appends[i] = eventstore.StreamAppend{StreamID: stream((w + i) % 5), Expected: eventstore.Any, Events: notesWith(newIDs(1 + w%3)...)}
			}
			logical[round*writers+w] = appends
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(8000))*time.Microsecond)
			defer cancel()
			_, err := appendTo(ctx, log.Store, appends)
			return err
		})
		for w, err := range errs {
			appends := logical[round*writers+w]
			checkCancelled(t, log, fmt.Sprintf("round %d, writer %d", round, w), appends, err, false, &count)
		}
	}
	for i, appends := range logical {
		_, err := appendTo(t.Context(), log.Store, appends)
		require.NoError(t, err, "append %d", i)
		require.Equal(t, len(idsOf(appends)), log.countIDs(t, idsOf(appends)))
	}
	for i := range 5 {
		require.NoError(t, firstError(log.Stream(t.Context(), stream(i), 0)))
	}
	t.Logf("%+v", count)
	require.Positive(t, count.refused+count.unknownNot+count.unknownWritten, "no context ended in time")
}
