package partition_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/partition"
)

// scissors cut the connection at a statement: before it is sent, or when it is done and its answer has come.
type scissors struct {
	at    int64
	after bool
	count atomic.Int64
}

func (s *scissors) TraceQueryStart(ctx context.Context, conn *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	if s.count.Add(1) == s.at && !s.after {
		_ = conn.PgConn().Conn().Close()
	}
	return ctx
}

func (s *scissors) TraceQueryEnd(_ context.Context, conn *pgx.Conn, _ pgx.TraceQueryEndData) {
	if s.count.Load() == s.at && s.after {
		_ = conn.PgConn().Conn().Close()
	}
}

// wire is a connection that is cut at its nth exchange, counted over all connections of a pool: in the middle of a statement too, such as a
// COPY.
type wire struct {
	net.Conn
	at    int64
	count *atomic.Int64
}

func (w wire) exchange(f func([]byte) (int, error), b []byte) (int, error) {
	if w.count.Add(1) == w.at {
		_ = w.Close()
	}
	return f(b)
}

func (w wire) Read(b []byte) (int, error)  { return w.exchange(w.Conn.Read, b) }
func (w wire) Write(b []byte) (int, error) { return w.exchange(w.Conn.Write, b) }

// breaking is a Blob whose nth call fails: a Put of it has written, or has not.
type breaking struct {
	partition.Blob
	at    int64
	after bool
	dead  bool // and all after it
	count atomic.Int64
}

var errBroken = errors.New("the wire was cut")

func (b *breaking) call(f func() error) error {
	n := b.count.Add(1)
	if n == b.at && !b.after || n > b.at && b.dead {
		return errBroken
	}
	if err := f(); err != nil {
		return err
	}
	if n == b.at {
		return errBroken
	}
	return nil
}

func (b *breaking) Put(ctx context.Context, key string, content []byte) error {
	return b.call(func() error { return b.Blob.Put(ctx, key, content) })
}

func (b *breaking) Get(ctx context.Context, key string) (content []byte, err error) {
	err = b.call(func() error { content, err = b.Blob.Get(ctx, key); return err })
	return content, err
}

func (b *breaking) Delete(ctx context.Context, key string) error {
	return b.call(func() error { return b.Blob.Delete(ctx, key) })
}

// Guarantee M4: the deletion of an old archive, too, is ended by the next run, wherever it was killed; until it has begun, reads go on.
func TestADeletionThatIsKilledIsEnded(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	log := newLog(t, 100)
	events := collect(t, log.All(ctx, 0, eventstore.Filter{}))
	dir := newDir(t)
	_, err := newMonths(t, log, partition.Config{Archive: dir, Online: 1}).Maintain(ctx)
	require.NoError(t, err)
	report, err := newMonths(t, log, partition.Config{}).Report(ctx)
	require.NoError(t, err)
	over := 0
	for _, month := range report.Months {
		if month.Over {
			over++
		}
	}
	store := withCold(t, log, dir, 100)
	for at := int64(1); ; at++ {
		cut := &breaking{Blob: dir, at: at, after: at%2 == 0, dead: true}
		_, err := newMonths(t, log, partition.Config{Archive: cut, Online: 1, Archived: over - 2}).Maintain(ctx)
		read, readErr := gather(store.All(ctx, 0, eventstore.Filter{}))
		if readErr == nil {
			require.Equal(t, events, read)
		} else {
			require.ErrorIs(t, readErr, eventstore.ErrArchived, "never fewer events")
		}
		keys, listErr := dir.List(ctx, "year=2024/month=01/")
		require.NoError(t, listErr)
		if err == nil {
			require.Empty(t, keys)
			require.GreaterOrEqual(t, at, int64(4), "it was killed before")
			break
		}
		require.ErrorIs(t, err, errBroken)
	}
	require.NotEmpty(t, collect(t, store.All(ctx, 0, eventstore.Filter{Recorded: eventstore.TimeRange{From: february}})))
}

// Guarantee M4: whatever statement and whatever call of the archive a run is killed at, before it or after it, the next run goes
// on, and nothing is lost or doubled: on the way out and on the way back.
func TestARunThatIsKilledAnywhereGoesOn(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"archive", "restore"} {
		for _, where := range []string{"statement", "archive"} {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, after %t", verb, where, after), func(t *testing.T) {
					t.Parallel()
					kills := 0
					for world := newWorld(t); world.killedAt(verb, where, after, int64(kills+1)); kills++ {
					}
					t.Logf("%d kills", kills)
					require.GreaterOrEqual(t, kills, 4)
				})
			}
		}
	}
}

// A month then has several parts, so that a run that goes on does not begin with the first.
const partRows, frameRows = 30, 20

// Guarantee M4: the same for a connection that is cut in the middle of whatever it carries.
func TestARunWhoseConnectionIsCutGoesOn(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"archive", "restore"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			kills := 0
			world := newWorld(t)
			for at := int64(1); ; at += 1 + at/6 {
				var count atomic.Int64
				store := tracedStore(t, world.log, func(config *pgxpool.Config) {
					dial := config.ConnConfig.DialFunc
					config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
						conn, err := dial(ctx, network, address)
						return wire{conn, at, &count}, err
					}
				})
				world.prepare(verb)
				err := run(testContext(t), store, verb, world.blob)
				world.endedBy(verb, fmt.Sprintf("%s cut at exchange %d: %v", verb, at, err))
				if count.Load() < at {
					break
				}
				kills++
			}
			t.Logf("%d kills", kills)
			require.GreaterOrEqual(t, kills, 15)
		})
	}
}

// world is a log whose January is killed again and again.
type world struct {
	*testing.T
	log    *eventstoretest.Log
	blob   *partition.Dir
	months *partition.Months
	cold   *eventstore.Store
	events []stored
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, log: newLog(t, 200), blob: newDir(t)}
	w.months = newMonths(t, w.log, partition.Config{Archive: w.blob})
	w.months.SetRows(partRows, frameRows)
	w.cold = withCold(t, w.log, w.blob, 100)
	w.events = collect(t, w.log.All(t.Context(), 0, eventstore.Filter{}))
	return w
}

// killedAt kills one run and has the next one end it; false: the run ended before.
func (w *world) killedAt(verb, where string, after bool, n int64) bool {
	ctx := testContext(w)
	w.prepare(verb)
	cut, archive := &scissors{after: after}, &breaking{Blob: w.blob, after: after}
	if where == "statement" {
		cut.at = n
	} else {
		archive.at = n
	}
	err := run(ctx, tracedStore(w, w.log, func(config *pgxpool.Config) { config.ConnConfig.Tracer = cut }), verb, archive)
	w.endedBy(verb, fmt.Sprintf("%s cut at %s %d, after %t: %v", verb, where, n, after, err))
	return cut.count.Load() >= n && where == "statement" || archive.count.Load() >= n && where == "archive"
}

// prepare brings January where the verb begins.
func (w *world) prepare(verb string) {
	w.Helper()
	require.NoError(w, finish(testContext(w), w.months, map[string]string{"archive": "restore", "restore": "archive"}[verb]))
	if verb == "archive" {
		forget(w, w.log, w.blob)
	}
}

// endedBy reads the log as a kill has left it, has the next run end what was begun, and reads it again.
func (w *world) endedBy(verb, label string) {
	w.Helper()
	ctx := testContext(w)
	require.Equal(w, w.events, collect(w, w.cold.All(ctx, 0, eventstore.Filter{})), label)
	require.NoError(w, finish(ctx, w.months, verb), label)
	require.Equal(w, w.events, collect(w, w.cold.All(ctx, 0, eventstore.Filter{})), label)
}

// forget makes January a month that was never archived, so that the next round goes all the way.
func forget(t testing.TB, log *eventstoretest.Log, blob partition.Blob) {
	t.Helper()
	keys, err := blob.List(t.Context(), "year=2024/month=01/")
	require.NoError(t, err)
	for _, key := range keys {
		require.NoError(t, blob.Delete(t.Context(), key))
	}
	exec(t, log, `UPDATE `+log.Schema()+`.months SET state = 'open', archive = NULL, revision = revision + 1 WHERE month = '2024-01-01'`)
}

// tracedStore is the log by a pool whose connections are cut.
func tracedStore(t testing.TB, log *eventstoretest.Log, cut func(*pgxpool.Config)) *eventstore.Store {
	t.Helper()
	config := direct(t).Config().Copy()
	cut(config)
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	store, err := eventstore.New(pool, eventstore.Config{Schema: log.Schema()})
	require.NoError(t, err)
	return store
}

func run(ctx context.Context, store *eventstore.Store, verb string, blob partition.Blob) error {
	months, err := partition.New(store, partition.Config{Archive: blob, Quarantine: time.Nanosecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	months.SetRows(partRows, frameRows)
	return finish(ctx, months, verb)
}

// finish brings January where the verb leads, if it is not there; the connection of the run before may still hold the lock.
func finish(ctx context.Context, months *partition.Months, verb string) (err error) {
	for range 100 {
		if verb == "archive" {
			_, err = months.Archive(ctx, january)
		} else {
			err = months.Restore(ctx, january)
			var notYet *partition.NotYetError
			if errors.As(err, &notYet) && notYet.State != partition.Detached { // it is in the database
				err = nil
			}
		}
		if !errors.Is(err, partition.ErrBusy) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// Guarantee M4: a DETACH CONCURRENTLY that was left half done is ended by the next run; meanwhile the log can be read and appended to.
func TestAHalfFinishedDetachIsEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := testContext(t)
	_, err := w.months.Maintain(ctx) // seals: Online months stay
	require.NoError(t, err)
	reader, err := w.log.Pool.Begin(ctx) // of the parent: DETACH waits for it between its two transactions
	require.NoError(t, err)
	_, err = reader.Exec(ctx, `SELECT count(*) FROM `+w.log.Schema()+`.events`)
	require.NoError(t, err)
	killed, kill := context.WithTimeout(ctx, 2*time.Second)
	defer kill()
	_, err = w.months.Archive(killed, january)
	require.Error(t, err)
	var pending bool
	require.NoError(t, w.log.Pool.QueryRow(ctx, `SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = $1::regclass`, w.log.Schema()+".events_2024_01").Scan(&pending))
	require.True(t, pending)
	require.Equal(t, "detached", states(t, w.log)["2024-01"])
	require.Equal(t, w.events, collect(t, w.cold.All(ctx, 0, eventstore.Filter{})))
	_, err = w.log.Append(ctx, eventstore.NewStreamID("discussion"), eventstore.NoStream, eventstore.Raw{Type: "said", SchemaVersion: 1, JSON: []byte(`{}`)})
	require.NoError(t, err)

	require.NoError(t, reader.Commit(ctx))
	require.NoError(t, finish(ctx, w.months, "archive"))
	require.Equal(t, "dropped", states(t, w.log)["2024-01"])
	require.Equal(t, w.events, collect(t, w.cold.All(ctx, 0, eventstore.Filter{}))[:len(w.events)])
}
