package eventstore_test

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/internal/devdb"
)

// Guarantees 3 and 10 where the sequence falls back. Appends that are rolled back take numbers that nothing writes to the
// disk; readers see the log settled above them; the server crashes, and gives the numbers out again. Whatever cursor a
// reader had, and whether it noticed the crash or not, it gets each event at those numbers once, and no false alarm.
func TestPositionsGivenOutAgainAreDelivered(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 5*time.Minute)
	// What is left to the WAL writer stays unwritten but for whole pages.
	cluster, err := devdb.StartCluster(ctx, map[string]string{"wal_writer_delay": "10s"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	for attempt := range 20 { // a burn in which a page of the WAL ends is written: about one in eight
		if fallBack(ctx, t, cluster, fmt.Sprintf("fallen_%d", attempt)) {
			return
		}
	}
	t.Error("the sequence never fell back: this test has shown nothing")
}

// fallBack burns numbers and crashes the server; it says whether the sequence fell back. If so, it has checked all readers.
func fallBack(ctx context.Context, t *testing.T, cluster *devdb.Cluster, schema string) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	log := newFallingLog(ctx, t, cluster, schema)
	end := log.before[len(log.before)-1].Position
	cut := startCrashReader(ctx, "cut off, and begun again", log.store, 0, eventstore.Filter{})
	early, later := log.startGroup(ctx, t, "that finds the log lower"), log.startGroup(ctx, t, "that finds the log as it was")
	paused, stop := iter.Pull2(later.store.All(ctx, 0, eventstore.Filter{}))
	defer stop()
	_, err, _ := paused()
	require.NoError(t, err)
	log.requireAll(ctx, t, cut, early, later)
	seen := log.burn(ctx, t)
	for _, g := range []*readerGroup{early, later} {
		g.start(ctx, "begun above the last event", end, eventstore.Filter{})
		g.start(ctx, "begun at the fifth event", log.before[4].Position, eventstore.Filter{})
	}
	log.requireAll(ctx, t, cut, early, later)
	log.crash(ctx, t, early, later)

	last := log.lastPosition(ctx, t)
	require.GreaterOrEqual(t, last, end, "the commit of an event has flushed its number")
	if last >= seen {
		return false
	}
	t.Logf("%s: events up to %d, settled at %d; after the crash the sequence stood at %d", schema, end, seen, last)

	cut.resume(ctx, t, log.store)
	early.gate.open(cluster.URL())
	early.awaitPolls(t)
	log.appendUpTo(ctx, t, last, seen) // to the very number that was settled: a poll sees no change
	require.Equal(t, seen, log.lastPosition(ctx, t))
	log.checkCursors(ctx, t)
	later.gate.open(cluster.URL())
	require.Equal(t, positionsOf(log.before[1:]), drain(t, paused), "a loop that was in its body all the while")
	log.requireAll(ctx, t, cut, early, later)
	log.appendUpTo(ctx, t, seen, seen+10)
	log.checkCursors(ctx, t)
	log.requireAll(ctx, t, cut, early, later)
	return true
}

// fallingLog is a log that is about to lose numbers, and the cursors that readers keep of it.
type fallingLog struct {
	cluster *devdb.Cluster
	schema  string
	pool    *pgxpool.Pool // opened again after the crash
	store   *eventstore.Store

	before           []eventstore.Recorded // all events of before the crash
	pageMid, pageEnd eventstore.Cursor     // after the fifth of them, and after the last
}

func newFallingLog(ctx context.Context, t *testing.T, cluster *devdb.Cluster, schema string) *fallingLog {
	log := &fallingLog{cluster: cluster, schema: schema}
	log.open(t)
	require.NoError(t, log.store.Migrate(ctx))
	for i := range 12 {
		id := eventstore.StreamID(fmt.Sprintf("%c-%d", 'a'+rune(i/6), i%3)) // the category b comes last
		_, err := log.store.Append(ctx, id, eventstore.Any, note{fmt.Sprint(i)})
		require.NoError(t, err)
	}
	log.before = eventstoretest.Collect(t, log.store.All(ctx, 0, eventstore.Filter{}))
	page, err := log.store.Page(ctx, eventstore.PageQuery{Limit: 5})
	require.NoError(t, err)
	log.pageMid = page.Next
	page, err = log.store.Page(ctx, eventstore.PageQuery{After: page.Next})
	require.NoError(t, err)
	log.pageEnd = page.Next
	return log
}

func (l *fallingLog) open(t *testing.T) {
	l.pool = eventstoretest.Pool(t, l.cluster.URL())
	l.store = l.newStore(t, l.pool)
}

func (l *fallingLog) newStore(t *testing.T, pool *pgxpool.Pool) *eventstore.Store {
	store, err := eventstore.New(pool, eventstore.Config{
		Schema: l.schema, Codec: noteCodec(t), PageSize: 3, PollInterval: 10 * time.Millisecond,
	})
	require.NoError(t, err)
	return store
}

func (l *fallingLog) lastPosition(ctx context.Context, t *testing.T) (last eventstore.Position) {
	require.NoError(t, l.pool.QueryRow(ctx, `SELECT `+l.schema+`.last_position()`).Scan((*int64)(&last)))
	return last
}

// burn takes a hundred numbers in a transaction that is rolled back: an append, and in place of 99 more the numbers that
// these would take, without the WAL of their rows, which would carry the sequence's to the disk. It returns the settled
// position after that.
func (l *fallingLog) burn(ctx context.Context, t *testing.T) eventstore.Position {
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		if _, err := l.store.WithTx(tx).Append(ctx, "burnt-1", eventstore.NoStream, note{"burnt"}); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `SELECT nextval('`+l.schema+`.events_position_seq') FROM generate_series(1, 99)`); err != nil {
			return err
		}
		return errRollBack
	})
	require.ErrorIs(t, err, errRollBack)
	settled, err := l.store.Settled(ctx)
	require.NoError(t, err)
	require.Equal(t, l.before[len(l.before)-1].Position+100, settled)
	return settled
}

// crash kills the server once the readers behind gates have seen how far the log is settled; they notice nothing of it.
func (l *fallingLog) crash(ctx context.Context, t *testing.T, groups ...*readerGroup) {
	for _, g := range groups {
		g.awaitPolls(t)
		g.gate.close()
		require.Eventually(t, func() bool { return g.pool.Stat().AcquiredConns() == 0 }, 10*time.Second, time.Millisecond)
	}
	require.NoError(t, l.cluster.Kill())
	require.NoError(t, l.cluster.Start(ctx))
	l.open(t)
}

// appendUpTo appends events at the positions after one up to another.
func (l *fallingLog) appendUpTo(ctx context.Context, t *testing.T, from, to eventstore.Position) {
	for next := from + 1; next <= to; {
		events := make([]any, min(7, to-next+1))
		for i := range events {
			events[i] = note{"again"}
		}
		receipt, err := l.store.Append(ctx, eventstore.StreamID(fmt.Sprintf("%c-%d", 'a'+rune(next%2), next%3)), eventstore.Any, events...)
		require.NoError(t, err)
		require.Equal(t, next, receipt.Positions[0])
		next += eventstore.Position(len(events))
	}
}

// stored is what a reader must have yielded, by plain SQL.
func (l *fallingLog) stored(ctx context.Context, t *testing.T, r *crashReader) []eventstore.Position {
	rows, err := l.pool.Query(ctx, `SELECT position FROM `+l.schema+`.events
		WHERE position > $1 AND (cardinality($2::text[]) = 0 OR split_part(stream_id, '-', 1) = ANY ($2)) ORDER BY position`,
		int64(r.after), append([]string{}, r.filter.Categories...))
	require.NoError(t, err)
	positions, err := pgx.CollectRows(rows, pgx.RowTo[eventstore.Position])
	require.NoError(t, err)
	return positions
}

// checkCursors reads on from every kind of cursor of before the crash.
func (l *fallingLog) checkCursors(ctx context.Context, t *testing.T) {
	all := l.stored(ctx, t, &crashReader{})
	read := func(after eventstore.Position) []eventstore.Position {
		return positionsOf(eventstoretest.Collect(t, l.store.All(ctx, after, eventstore.Filter{})))
	}
	require.Equal(t, all, read(0), "from the start")
	require.Equal(t, all, append(positionsOf(l.before[:5]), l.readPages(ctx, t, l.pageMid)...), "from the cursor of a page")
	require.Equal(t, all, append(positionsOf(l.before), l.readPages(ctx, t, l.pageEnd)...), "from the cursor of the last page")
	for _, i := range []int{4, len(l.before) - 1} {
		require.Equal(t, all, append(positionsOf(l.before[:i+1]), read(l.before[i].Position)...), "from the position of event %d", i)
		position, err := l.store.Resume(ctx, l.before[i].Cursor())
		require.NoError(t, err, "the cursor of event %d, kept outside", i)
		require.Equal(t, all, append(positionsOf(l.before[:i+1]), read(position)...), "from the cursor of event %d, kept outside", i)
	}
}

func (l *fallingLog) readPages(ctx context.Context, t *testing.T, cursor eventstore.Cursor) (positions []eventstore.Position) {
	for more := true; more; {
		page, err := l.store.Page(ctx, eventstore.PageQuery{After: cursor, Limit: 50})
		require.NoError(t, err)
		positions = append(positions, positionsOf(page.Events)...)
		cursor, more = page.Next, page.More
	}
	return positions
}

func (l *fallingLog) requireAll(ctx context.Context, t *testing.T, reader *crashReader, groups ...*readerGroup) {
	readers := []*crashReader{reader}
	for _, g := range groups {
		readers = append(readers, g.readers...)
	}
	for _, r := range readers {
		r.require(t, l.stored(ctx, t, r))
	}
}

// readerGroup is followers of one store, behind one gate.
type readerGroup struct {
	name    string
	gate    *gate
	pool    *pgxpool.Pool
	store   *eventstore.Store
	readers []*crashReader
}

func (l *fallingLog) startGroup(ctx context.Context, t *testing.T, name string) *readerGroup {
	g := &readerGroup{name: name, gate: &gate{}}
	g.pool = g.gate.pool(ctx, t, l.cluster)
	g.store = l.newStore(t, g.pool)
	g.start(ctx, "from the start", 0, eventstore.Filter{})
	g.start(ctx, "of the first events alone", 0, eventstore.Filter{Categories: []string{"a"}})
	return g
}

func (g *readerGroup) start(ctx context.Context, name string, after eventstore.Position, filter eventstore.Filter) {
	g.readers = append(g.readers, startCrashReader(ctx, g.name+", "+name, g.store, after, filter))
}

// awaitPolls waits until the group has looked at the log again.
func (g *readerGroup) awaitPolls(t *testing.T) {
	polls := g.pool.Stat().AcquireCount()
	require.Eventually(t, func() bool { return g.pool.Stat().AcquireCount() > polls+10 }, 10*time.Second, time.Millisecond,
		"the followers of a group %s do not look at the log any more", g.name)
}

// crashReader follows the log in a goroutine.
type crashReader struct {
	name   string
	after  eventstore.Position
	filter eventstore.Filter

	ended     chan error // what ended the loop
	mu        sync.Mutex
	positions []eventstore.Position
}

func startCrashReader(ctx context.Context, name string, store *eventstore.Store, after eventstore.Position, filter eventstore.Filter) *crashReader {
	r := &crashReader{name: name, after: after, filter: filter}
	r.start(ctx, store, after)
	return r
}

func (r *crashReader) start(ctx context.Context, store *eventstore.Store, after eventstore.Position) {
	r.ended = make(chan error, 1)
	go func() {
		for event, err := range store.Follow(ctx, after, r.filter) {
			if err != nil {
				r.ended <- err
				return
			}
			r.mu.Lock()
			r.positions = append(r.positions, event.Position)
			r.mu.Unlock()
		}
	}()
}

// resume goes on after the last position, once the crash has ended the loop.
func (r *crashReader) resume(ctx context.Context, t *testing.T, store *eventstore.Store) {
	select {
	case err := <-r.ended:
		require.NotErrorIs(t, err, eventstore.ErrLogRewound)
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
	seen := r.seen()
	r.start(ctx, store, seen[len(seen)-1])
}

func (r *crashReader) seen() []eventstore.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]eventstore.Position{}, r.positions...)
}

// require waits until the reader has yielded so many events, and compares them.
func (r *crashReader) require(t *testing.T, want []eventstore.Position) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	for len(r.seen()) < len(want) {
		select {
		case err := <-r.ended:
			require.NoError(t, err, "a reader %s", r.name)
		case <-deadline.C:
			require.Equal(t, want, r.seen(), "a reader %s", r.name)
		case <-time.After(time.Millisecond):
		}
	}
	require.Equal(t, want, r.seen(), "a reader %s: every event once, in order", r.name)
}

// drain pulls a loop to its end.
func drain(t *testing.T, next func() (eventstore.Recorded, error, bool)) (positions []eventstore.Position) {
	for {
		event, err, ok := next()
		if !ok {
			return positions
		}
		require.NoError(t, err)
		positions = append(positions, event.Position)
	}
}
