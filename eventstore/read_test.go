package eventstore_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// Guarantee 7: a stream with a hole is an error that names the missing version.
func TestAHoleInAStreamIsCorrupt(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{PageSize: 3})
	for range 10 {
		log.append(t, "a-1", eventstore.Any, note{"x"})
	}
	month := time.Now().UTC().Format("2006_01")
	// Only a superuser can: past the trigger that refuses it.
	require.NoError(t, pgx.BeginFunc(t.Context(), log.Pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `SET LOCAL session_replication_role = replica`)
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), log.sql(`DELETE FROM {{schema}}.events_`+month+` WHERE version = 5`))
		return err
	}))
	read := 0
	var last error
	for _, err := range log.Stream(t.Context(), "a-1", 0) {
		if last = err; err == nil {
			read++
		}
	}
	var corrupt *eventstore.CorruptError
	require.ErrorAs(t, last, &corrupt)
	require.ErrorIs(t, last, eventstore.ErrCorrupt)
	require.Equal(t, eventstore.CorruptError{StreamID: "a-1", Version: 5, Head: 10}, *corrupt)
	require.Equal(t, 3, read, "the pages before the hole were read")
	require.ErrorIs(t, firstError(log.Backward(t.Context(), "a-1", 0)), eventstore.ErrCorrupt)
	require.NoError(t, firstError(log.Stream(t.Context(), "a-1", 5)))
}

// Guarantee 7: a stream up to a version, over pages and a month end, and which version had occurred last by a time.
func TestAStreamUpToAVersion(t *testing.T) {
	t.Parallel()
	now := time.Date(2031, 11, 30, 12, 0, 0, 0, time.UTC)
	log := newLog(t, eventstore.Config{PageSize: 3, Clock: func() time.Time { return now }})
	ctx := t.Context()
	begin := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, minute := range []int{1, 2, 5, 3, 4, 6, 8, 7} { // they talk over each other
		if i == 4 {
			now = now.AddDate(0, 1, 0)
		}
		log.append(t, "a-1", eventstore.Any, eventstore.Event{Data: note{"x"}, OccurredAt: begin.Add(time.Duration(minute) * time.Minute)})
	}
	for _, test := range []struct{ after, to, want eventstore.Version }{{0, 8, 8}, {0, 3, 3}, {2, 7, 5}, {0, 100, 8}, {5, 5, 0}, {6, 2, 0}} {
		events := eventstoretest.Collect(t, log.StreamTo(ctx, "a-1", test.after, test.to))
		require.Len(t, events, int(test.want), "%+v", test)
		for i, e := range events {
			require.Equal(t, test.after+eventstore.Version(i)+1, e.Version)
		}
	}
	require.Empty(t, eventstoretest.Collect(t, log.StreamTo(ctx, "nobody-1", 0, 5)))
	require.ErrorIs(t, firstError(log.StreamTo(ctx, "a-1", 0, -1)), eventstore.ErrInvalid)
	for minute, want := range []eventstore.Version{0, 1, 2, 4, 5, 5, 6, 8, 8, 8} {
		last, err := log.LastOccurred(ctx, "a-1", begin.Add(time.Duration(minute)*time.Minute))
		require.NoError(t, err)
		require.Equal(t, want, last, "minute %d", minute)
	}
	_, err := log.LastOccurred(ctx, "a", begin)
	require.ErrorIs(t, err, eventstore.ErrInvalid)
}

// Guarantee 10: a cursor that has seen more than the log holds is refused.
func TestRewoundLogIsNoticed(t *testing.T) {
	t.Parallel()
	now := newLog(t, eventstore.Config{})
	then := newLog(t, eventstore.Config{}) // stands for the same log, restored from an older copy
	ctx := t.Context()
	for i := range 5 {
		now.append(t, "a-1", eventstore.Any, note{fmt.Sprint(i)})
		then.append(t, "a-1", eventstore.Any, note{fmt.Sprint(i)})
	}
	seen := eventstoretest.Collect(t, now.All(ctx, 0, eventstore.Filter{}))
	position, err := now.Resume(ctx, seen[2].Cursor())
	require.NoError(t, err)
	require.Equal(t, seen[2].Position, position)

	_, err = then.Resume(ctx, seen[2].Cursor())
	require.ErrorIs(t, err, eventstore.ErrLogRewound, "another event stands there")
	_, err = then.Page(ctx, eventstore.PageQuery{After: seen[2].Cursor()})
	require.ErrorIs(t, err, eventstore.ErrLogRewound)
	now.append(t, "a-1", eventstore.Any, note{"more"})
	more := eventstoretest.Collect(t, now.All(ctx, 5, eventstore.Filter{}))
	_, err = then.Resume(ctx, more[0].Cursor())
	var rewound *eventstore.RewoundError
	require.ErrorAs(t, err, &rewound)
	require.Equal(t, eventstore.RewoundError{Position: 6, EventID: more[0].ID, Last: 5}, *rewound)
	require.ErrorIs(t, firstError(then.All(ctx, 6, eventstore.Filter{})), eventstore.ErrLogRewound, "a position beyond the end")
	require.ErrorIs(t, firstError(then.Follow(ctx, 6, eventstore.Filter{})), eventstore.ErrLogRewound)
	_, err = then.Resume(ctx, "nonsense")
	require.ErrorIs(t, err, eventstore.ErrBadCursor)
}

// A slow appender holds a follower back, and only until it ends; then everything comes in order.
func TestFollowWaitsForASlowAppender(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	following := &follower{store: log.Store}
	go func() { _ = following.run(ctx) }()
	first := log.append(t, "a-1", eventstore.NoStream, note{"1"})
	require.Eventually(t, func() bool { return following.count() == 1 }, 10*time.Second, time.Millisecond)

	slow, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	second, err := log.WithTx(slow).Append(ctx, "slow-1", eventstore.NoStream, note{"2"})
	require.NoError(t, err)
	third := log.append(t, "a-1", eventstore.Any, note{"3"})
	settled, err := log.Settled(ctx)
	require.NoError(t, err)
	require.Equal(t, first.Position(), settled)
	require.Never(t, func() bool { return following.count() > 1 }, 300*time.Millisecond, 10*time.Millisecond)
	require.NoError(t, slow.Commit(ctx))
	require.Eventually(t, func() bool { return following.count() == 3 }, 10*time.Second, time.Millisecond)
	require.Equal(t, []eventstore.Position{first.Position(), second.Position(), third.Position()}, following.positions)
}

// Filtered reads look through the log in windows; where nothing passes, and where everything does.
func TestFilteredReadsGoThroughWindows(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{PageSize: 2})
	log.SetFilteredScan(3)
	var want []eventstore.Position
	for i := range 40 {
		id := eventstore.StreamID("rare-1")
		if i%11 != 0 {
			id = "common-1"
		}
		receipt := log.append(t, id, eventstore.Any, note{"x"})
		if id == "rare-1" {
			want = append(want, receipt.Position())
		}
	}
	require.Equal(t, want, positionsOf(eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{Categories: []string{"rare"}}))))
	require.Len(t, eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{Types: []string{"note"}})), 40)
	require.Empty(t, eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{Types: []string{"none"}})))
	page, err := log.Page(t.Context(), eventstore.PageQuery{Limit: 3, Filter: eventstore.Filter{Categories: []string{"rare"}}})
	require.NoError(t, err)
	require.Equal(t, want[:3], positionsOf(page.Events))
	require.True(t, page.More)

	for category, chosen := range map[string][]eventstore.Position{"rare": want, "none": nil} {
		var found []eventstore.Position
		upTo := eventstore.Position(0)
		for chunk, err := range log.Chunks(t.Context(), 0, eventstore.Filter{Categories: []string{category}}) {
			require.NoError(t, err)
			require.Greater(t, chunk.UpTo, upTo)
			require.LessOrEqual(t, chunk.UpTo, upTo+3, "each window says how far it came")
			found, upTo = append(found, positionsOf(chunk.Events)...), chunk.UpTo
		}
		require.Equal(t, chosen, found)
		require.EqualValues(t, 40, upTo)
	}
}

// A month is made beside a caller's transaction, so that nobody waits for its end; without a pool, inside it.
func TestMonthIsMadeBesideATransaction(t *testing.T) {
	t.Parallel()
	now := time.Date(2031, 11, 1, 0, 0, 0, 0, time.UTC)
	log := newLog(t, eventstore.Config{Clock: func() time.Time { return now }})
	ctx := testContext(t, time.Minute)
	open := func(options pgx.TxOptions) pgx.Tx {
		tx, err := log.Pool.BeginTx(ctx, options)
		require.NoError(t, err)
		t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(ctx)) })
		return tx
	}
	tx := open(pgx.TxOptions{})
	_, err := log.WithTx(tx).Append(ctx, "a-1", eventstore.NoStream, note{"in the transaction"})
	require.NoError(t, err)
	log.append(t, "b-1", eventstore.NoStream, note{"meanwhile, into the same new month"})
	require.NoError(t, tx.Commit(ctx))

	without, err := eventstore.New(nil, eventstore.Config{Schema: log.Schema(), Codec: noteCodec(t), Clock: func() time.Time { return now }})
	require.NoError(t, err)
	now = now.AddDate(0, 1, 0)
	tx = open(pgx.TxOptions{})
	_, err = without.WithTx(tx).Append(ctx, "a-1", eventstore.Any, note{"December"})
	require.NoError(t, err)
	require.NoError(t, tx.Commit(ctx))

	// A snapshot taken before the month was made cannot see it: the transaction must be repeated, and says so.
	now = now.AddDate(0, 1, 0)
	for _, store := range []*eventstore.Store{log.Store, without} {
		tx = open(pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		_, err = tx.Exec(ctx, `SELECT 1`)
		require.NoError(t, err)
		log.append(t, eventstore.NewStreamID("c"), eventstore.NoStream, note{"makes the month"})
		_, err = store.WithTx(tx).Append(ctx, eventstore.NewStreamID("d"), eventstore.NoStream, note{"x"})
		require.ErrorIs(t, err, eventstore.ErrSerialization)
		require.True(t, eventstore.Retryable(err))
		require.NoError(t, tx.Rollback(ctx))
		now = now.AddDate(0, 1, 0)
	}
	require.Len(t, eventstoretest.Collect(t, log.All(ctx, 0, eventstore.Filter{})), 5)
}

func TestFollowNeedsAPool(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	tx, err := log.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(testContext(t, time.Minute))) }()
	require.ErrorIs(t, firstError(log.WithTx(tx).Follow(t.Context(), 0, eventstore.Filter{})), eventstore.ErrNoPool)

	// A store without a pool works in transactions, and says so elsewhere.
	store, err := eventstore.New(nil, eventstore.Config{Schema: log.Schema(), Codec: noteCodec(t)})
	require.NoError(t, err)
	_, err = store.Append(t.Context(), "a-1", eventstore.Any, note{"x"})
	require.ErrorIs(t, err, eventstore.ErrNoPool)
	require.ErrorIs(t, firstError(store.Stream(t.Context(), "a-1", 0)), eventstore.ErrNoPool)
	require.ErrorIs(t, firstError(store.All(t.Context(), 0, eventstore.Filter{})), eventstore.ErrNoPool)
	require.ErrorIs(t, store.Migrate(t.Context()), eventstore.ErrNoPool)
	_, err = store.WithTx(tx).Append(t.Context(), "a-1", eventstore.Any, note{"x"})
	require.NoError(t, err)
	require.Len(t, eventstoretest.Collect(t, store.WithTx(tx).Stream(t.Context(), "a-1", 0)), 1)
}

// Under stricter isolation a lost race is ErrSerialization, and repeating the transaction succeeds.
func TestSerializationFailureIsRetryable(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := t.Context()
	log.append(t, "a-1", eventstore.NoStream, note{"1"})
	attempt := func(between func()) error {
		return pgx.BeginTxFunc(ctx, log.Pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT 1`); err != nil { // takes the snapshot
				return err
			}
			between()
			_, err := log.WithTx(tx).Append(ctx, "a-1", eventstore.Any, note{"2"})
			return err
		})
	}
	err := attempt(func() { log.append(t, "a-1", eventstore.Any, note{"won"}) })
	require.ErrorIs(t, err, eventstore.ErrSerialization)
	require.True(t, eventstore.Retryable(err))
	require.NoError(t, attempt(func() {}))
	_, conflict := log.Append(ctx, "a-1", eventstore.NoStream, note{"3"})
	require.False(t, eventstore.Retryable(conflict))
}

// A service that imports eventstore compiles pgx, uuid, and nothing of what serves tests.
func TestDependencies(t *testing.T) {
	t.Parallel()
	for _, pkg := range []string{"./", "./focusgroup"} {
		out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", pkg).Output()
		require.NoError(t, err)
		for _, dep := range strings.Fields(string(out)) {
			allowed := false
			for _, prefix := range []string{
				"github.com/sight-platform/hindsight/eventstore", "github.com/sight-platform/hindsight/internal/pg",
				"github.com/sight-platform/hindsight/internal/migrate",
				"github.com/jackc/pgx/v5", "github.com/jackc/puddle/v2", "github.com/jackc/pgpassfile", "github.com/jackc/pgservicefile",
				"github.com/google/uuid", "golang.org/x/text/", "golang.org/x/sync/semaphore", "golang.org/x/crypto/", "vendor/",
			} {
				allowed = allowed || strings.HasPrefix(dep, prefix)
			}
			require.True(t, allowed, "%s depends on %s", pkg, dep)
			require.NotContains(t, dep, "eventstoretest")
		}
	}
}
