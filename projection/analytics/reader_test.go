package analytics_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/devdb"
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
	facts        int
	lastPosition eventstore.Position
	interactions int64 // by the aggregate
}

func look(ctx context.Context, t testing.TB, reader *analytics.Reader) (seen seenBy) {
	t.Helper()
	require.NoError(t, reader.Query(ctx, func(tx pgx.Tx, upTo analytics.Fresh) error {
		seen.upTo = upTo
		return tx.QueryRow(ctx, `
SELECT count(*), coalesce(max(position), 0), (SELECT coalesce(sum(total_interactions), 0)::bigint FROM daily_active_personas)
  FROM fact_persona_interactions`).Scan(&seen.facts, &seen.lastPosition, &seen.interactions)
	}))
	return seen
}

// No number is read from beyond what a replica has replayed: the position that the reader names and its numbers stand still
// together, and go on together.
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

	reader := openReader(ctx, t, config, analytics.ReaderConfig{Schema: log.Schema(), StatementTimeout: 50 * time.Millisecond})
	requireCode := func(code, sql string) {
		t.Helper()
		var answer *pgconn.PgError
		require.ErrorAs(t, reader.Query(ctx, func(tx pgx.Tx, _ analytics.Fresh) error { _, err := tx.Exec(ctx, sql); return err }), &answer)
		require.Equal(t, code, answer.Code)
	}
	requireCode("57014", `SELECT pg_sleep(100)`)
	requireCode("25006", `DELETE FROM dim_users_v1`)

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
	require.Equal(t, 33, look(ctx, t, patient).facts)
}
