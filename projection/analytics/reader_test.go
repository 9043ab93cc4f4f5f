package analytics_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/devdb"
	"github.com/sight-platform/hindsight/internal/pg"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

func openReader(ctx context.Context, t testing.TB, pool *pgxpool.Config, config analytics.ReaderConfig) *analytics.Reader {
	t.Helper()
	reader, err := analytics.Open(ctx, pool, config)
	require.NoError(t, err)
	t.Cleanup(reader.Close)
	return reader
}

// seenBy is what a reader says, and what it counts.
type seenBy struct {
	upTo         analytics.Fresh
	facts, said  int // said: events of the log up to there that make facts
	lastPosition eventstore.Position
	interactions int64 // by the aggregate
}

func look(ctx context.Context, t testing.TB, reader *analytics.Reader) (seen seenBy) {
	t.Helper()
	seen, err := tryToLook(ctx, reader)
	require.NoError(t, err)
	return seen
}

func tryToLook(ctx context.Context, reader *analytics.Reader) (seen seenBy, err error) {
	return seen, reader.Query(ctx, func(tx pgx.Tx, upTo analytics.Fresh) error {
		seen.upTo = upTo
		return tx.QueryRow(ctx, `
SELECT count(*), coalesce(max(position), 0), (SELECT coalesce(sum(total_interactions), 0)::bigint FROM daily_active_personas),
       (SELECT count(*) FROM events WHERE position <= $1 AND event_type IN ('persona_created', 'persona_edited', 'response', 'followup', 'survey_completed'))
  FROM fact_persona_interactions`, int64(upTo.Position)).Scan(&seen.facts, &seen.lastPosition, &seen.interactions, &seen.said)
	})
}

// requireAgreement asks that all of what is seen goes as far as the reader says, and no further.
func requireAgreement(t testing.TB, seen seenBy) {
	t.Helper()
	require.LessOrEqual(t, seen.lastPosition, seen.upTo.Position)
	require.Equal(t, seen.said, seen.facts, "the log's events up to position %d", seen.upTo.Position)
	require.Equal(t, seen.upTo.Marks == 0, seen.upTo.MarkedAt.IsZero())
	if seen.upTo.Marks == 0 {
		require.EqualValues(t, seen.facts, seen.interactions, "nothing has changed since the aggregates were computed")
	}
}

// No number is read from beyond what a replica has replayed: the position that the reader names and its numbers stand still
// together, and go on together; while replay runs, each look is of one position.
func TestAReaderOfAStandby(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	primary, err := devdb.StartCluster(ctx, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, primary.Close()) })
	standby, err := primary.StartStandby(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, standby.Close()) })
	log := &eventstoretest.Log{Pool: eventstoretest.Pool(t, primary.URL())}
	log.Store, err = eventstore.New(log.Pool, eventstore.Config{Codec: focusgroup.Codec()})
	require.NoError(t, err)
	require.NoError(t, log.Migrate(ctx))
	appendWorld(t, log)
	star := builtStar(t, log, analytics.Config{})
	replica := eventstoretest.Pool(t, standby.URL())
	awaitReplay := func() {
		var end string
		require.NoError(t, log.Pool.QueryRow(ctx, `SELECT pg_current_wal_lsn()::text`).Scan(&end))
		require.Eventually(t, func() (there bool) {
			err := replica.QueryRow(ctx, `SELECT coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)`, end).Scan(&there)
			return err == nil && there
		}, time.Minute, 5*time.Millisecond)
	}
	awaitReplay()
	config, err := pgxpool.ParseConfig(standby.URL())
	require.NoError(t, err)
	reader := openReader(ctx, t, config, analytics.ReaderConfig{})
	before := look(ctx, t, reader)
	require.Equal(t, 27, before.facts)
	require.EqualValues(t, 27, before.interactions)
	require.LessOrEqual(t, before.lastPosition, before.upTo.Position)

	_, err = replica.Exec(ctx, `SELECT pg_wal_replay_pause()`)
	require.NoError(t, err)
	require.Eventually(t, func() bool { // it is asked for; the record in hand is replayed first
		var state string
		err := replica.QueryRow(ctx, `SELECT pg_get_wal_replay_pause_state()`).Scan(&state)
		return err == nil && state == "paused"
	}, time.Minute, 5*time.Millisecond)
	appendDiscussion(t, log, "discussion-4", smallWorld().AddDate(0, 0, 10), "p1", true)
	runUntilSettled(t, log, star)
	_, err = star.Refresh(ctx)
	require.NoError(t, err)
	require.Equal(t, before, look(ctx, t, reader), "replay stands still, and so does all that is said")
	primaryConfig, err := pgxpool.ParseConfig(primary.URL())
	require.NoError(t, err)
	ahead := look(ctx, t, openReader(ctx, t, primaryConfig, analytics.ReaderConfig{}))
	require.Equal(t, 33, ahead.facts)
	require.Greater(t, ahead.upTo.Position, before.upTo.Position)

	_, err = replica.Exec(ctx, `SELECT pg_wal_replay_resume()`)
	require.NoError(t, err)
	awaitReplay()
	require.Equal(t, ahead, look(ctx, t, reader))
	require.EqualValues(t, 33, ahead.interactions)
	requireAgreement(t, ahead)
	lookWhileItGrows(ctx, t, log, star, reader)
}

// lookWhileItGrows looks again and again while events come, facts are made and aggregates are refreshed.
func lookWhileItGrows(ctx context.Context, t *testing.T, log *eventstoretest.Log, star *analytics.Star, reader *analytics.Reader) {
	t.Helper()
	runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{star}})
	require.NoError(t, err)
	working, leave := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error { return runner.Run(working) })
	group.Go(func() error { star.KeepFresh(working, 20*time.Millisecond, nil); return nil })
	defer func() { leave(); require.NoError(t, group.Wait()) }()
	positions := map[eventstore.Position]bool{}
	for n := range 12 {
		appendDiscussion(t, log, eventstore.StreamID(fmt.Sprintf("discussion-1%d", n)), smallWorld().AddDate(0, 0, n), "p1", true)
		for range 4 {
			seen, err := tryToLook(ctx, reader)
			if pg.Code(err) == pg.SerializationFailure { // replay had to go on
				continue
			}
			require.NoError(t, err)
			requireAgreement(t, seen)
			positions[seen.upTo.Position] = true
		}
	}
	require.Eventually(t, func() bool {
		seen, err := tryToLook(ctx, reader)
		if err != nil {
			return false
		}
		requireAgreement(t, seen)
		positions[seen.upTo.Position] = true
		return seen.facts == 33+12*6 && seen.upTo.Marks == 0
	}, time.Minute, 5*time.Millisecond)
	require.Greater(t, len(positions), 1)
}

func TestAReaderIsBoundedAndOnlyReads(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	log := newLog(t)
	config := log.Pool.Config()
	_, err := analytics.Open(ctx, config, analytics.ReaderConfig{Schema: log.Schema()})
	require.ErrorIs(t, err, projection.ErrNotMigrated)
	_, err = analytics.Open(ctx, config, analytics.ReaderConfig{Schema: "not_there"})
	require.ErrorIs(t, err, projection.ErrNotMigrated)
	_, err = analytics.Open(ctx, config, analytics.ReaderConfig{StatementTimeout: -1})
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	appendWorld(t, log)
	star := builtStar(t, log, analytics.Config{})

	reader := openReader(ctx, t, config, analytics.ReaderConfig{Schema: log.Schema(), StatementTimeout: time.Second})
	requireCode := func(code, sql string) {
		t.Helper()
		var answer *pgconn.PgError
		require.ErrorAs(t, reader.Query(ctx, func(tx pgx.Tx, _ analytics.Fresh) error { _, err := tx.Exec(ctx, sql); return err }), &answer)
		require.Equal(t, code, answer.Code)
	}
	requireCode("57014", `SELECT pg_sleep(100)`)
	requireCode("25006", `DELETE FROM dim_users_v1`)
	require.Error(t, reader.Query(ctx, func(tx pgx.Tx, _ analytics.Fresh) error { // it asks nothing, and holds a connection
		var session int32 // the server's: a pooler has numbers of its own
		require.NoError(t, tx.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&session))
		require.Eventually(t, func() (gone bool) {
			err := log.Pool.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)`, session).Scan(&gone)
			return err == nil && gone
		}, 20*time.Second, 20*time.Millisecond)
		_, err := tx.Exec(ctx, `SELECT`)
		return err
	}))

	// What is written meanwhile is not seen by a query that has begun.
	patient := openReader(ctx, t, config, analytics.ReaderConfig{Schema: log.Schema()})
	var first, second int
	require.NoError(t, patient.Query(ctx, func(tx pgx.Tx, upTo analytics.Fresh) error {
		require.NoError(t, tx.QueryRow(ctx, `SELECT count(*) FROM fact_discussion_turns`).Scan(&first))
		appendDiscussion(t, log, "discussion-4", smallWorld().AddDate(0, 0, 10), "p1", true)
		runUntilSettled(t, log, star)
		var last eventstore.Position
		require.NoError(t, tx.QueryRow(ctx, `SELECT count(*), max(position) FROM fact_discussion_turns`).Scan(&second, &last))
		require.LessOrEqual(t, last, upTo.Position)
		return nil
	}))
	require.Equal(t, 18, first)
	require.Equal(t, first, second)
	seen := look(ctx, t, patient)
	require.Equal(t, 33, seen.facts)
	requireAgreement(t, seen)
	require.EqualValues(t, 27, seen.interactions)
	require.Positive(t, seen.upTo.Marks, "the aggregates are not refreshed")
	require.Less(t, seen.upTo.RefreshedAt, seen.upTo.MarkedAt)
	_, err = star.Refresh(ctx)
	require.NoError(t, err)
	seen = look(ctx, t, patient)
	requireAgreement(t, seen)
	require.Zero(t, seen.upTo.Marks)
}

// A reader says how far the version goes whose rows it shows, though another one is there, too; and keeps to it.
func TestAReaderReadsTheVersionThatServes(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	log := newLog(t)
	appendWorld(t, log)
	builtStar(t, log, analytics.Config{})
	reader := openReader(ctx, t, log.Pool.Config(), analytics.ReaderConfig{Schema: log.Schema()})
	first := openReader(ctx, t, log.Pool.Config(), analytics.ReaderConfig{Schema: log.Schema(), Version: 1})
	before := look(ctx, t, reader)
	require.Equal(t, 1, before.upTo.Version)
	appendDiscussion(t, log, "discussion-4", smallWorld().AddDate(0, 0, 10), "p1", true)
	second, err := analytics.New(log.Store, analytics.Config{Version: 2})
	require.NoError(t, err)
	runner := runUntilSettled(t, log, second)
	require.Equal(t, before, look(ctx, t, reader), "the second version is further, and not shown")

	serve := func(wait time.Duration) error {
		ctx, stop := context.WithTimeout(ctx, wait)
		defer stop()
		return runner.Serve(ctx, "analytics")
	}
	require.NoError(t, reader.Query(ctx, func(tx pgx.Tx, upTo analytics.Fresh) error {
		require.ErrorIs(t, serve(300*time.Millisecond), context.DeadlineExceeded, "not under a reader's hands, though it has read nothing yet")
		var facts int
		require.NoError(t, tx.QueryRow(ctx, `SELECT count(*) FROM fact_persona_interactions`).Scan(&facts))
		require.Equal(t, before.facts, facts)
		return nil
	}))
	require.NoError(t, serve(time.Minute))
	after := look(ctx, t, reader)
	require.Equal(t, 2, after.upTo.Version)
	require.Equal(t, 33, after.facts)
	require.Greater(t, after.upTo.Position, before.upTo.Position)
	requireAgreement(t, after)
	require.ErrorIs(t, first.Query(ctx, func(pgx.Tx, analytics.Fresh) error { return nil }), analytics.ErrOtherVersion)

	// A reader that comes in the midst of a change of the views sees what was committed with it.
	changing, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	var view uint32
	require.NoError(t, changing.QueryRow(ctx, `SELECT ($1 || '.analytics_dirty')::regclass::oid`, log.Schema()).Scan(&view))
	_, err = changing.Exec(ctx, fmt.Sprintf(`DROP VIEW %[1]s.analytics_dirty; CREATE VIEW %[1]s.analytics_dirty AS SELECT * FROM %[1]s.analytics_dirty_v1`, log.Schema()))
	require.NoError(t, err)
	var seen analytics.Fresh
	ended := make(chan error, 1)
	go func() {
		ended <- reader.Query(ctx, func(_ pgx.Tx, upTo analytics.Fresh) error { seen = upTo; return nil })
	}()
	require.Eventually(t, func() (waits bool) {
		err := log.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_locks WHERE relation = $1 AND NOT granted)`, view).Scan(&waits)
		return err == nil && waits
	}, 20*time.Second, 5*time.Millisecond)
	require.NoError(t, changing.Commit(ctx))
	require.NoError(t, <-ended)
	require.Equal(t, 1, seen.Version)
	require.Equal(t, before.upTo.Position, seen.Position)
}
