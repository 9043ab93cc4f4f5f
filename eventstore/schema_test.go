package eventstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/internal/devdb"
	"github.com/sight-platform/hindsight/internal/migrate/migratetest"
)

func TestMigrateRunsInManyProcessesAtOnce(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	schema := log.Schema() + "_many"
	t.Cleanup(func() { log.exec(t, `DROP SCHEMA IF EXISTS `+schema+` CASCADE`) })
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			store, err := eventstore.New(log.Pool, eventstore.Config{Schema: schema})
			if err != nil {
				return err
			}
			return store.Migrate(t.Context())
		})
	}
	require.NoError(t, group.Wait())
	store, err := eventstore.New(log.Pool, eventstore.Config{Schema: schema})
	require.NoError(t, err)
	require.NoError(t, store.CheckSchema(t.Context()))
}

// The exported SQL, run by hand on an empty database, gives the same schema as Migrate.
func TestExportedSQLGivesTheSameSchema(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	schema := log.Schema() + "_export"
	t.Cleanup(func() { log.exec(t, `DROP SCHEMA IF EXISTS `+schema+` CASCADE`) })
	migrations, err := eventstore.Migrations(schema)
	require.NoError(t, err)
	require.NotEmpty(t, migrations)
	conn, err := log.Pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	for _, m := range migrations {
		_, err := conn.Conn().PgConn().Exec(t.Context(), m.SQL).ReadAll()
		require.NoError(t, err)
	}
	require.Equal(t, migratetest.Describe(t, log.Pool, log.Schema()), migratetest.Describe(t, log.Pool, schema))

	exported, err := eventstore.New(log.Pool, eventstore.Config{Schema: schema, Codec: noteCodec(t)})
	require.NoError(t, err)
	require.NoError(t, exported.CheckSchema(t.Context()))
	require.NoError(t, exported.Migrate(t.Context()), "Migrate finds nothing to do")
	_, err = exported.Append(t.Context(), "a-1", eventstore.NoStream, note{"x"})
	require.NoError(t, err)
	_, err = eventstore.Migrations(`not a "name"`)
	require.ErrorIs(t, err, eventstore.ErrInvalid)
}

func TestCheckSchemaTellsOlderFromNewer(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := t.Context()
	require.NoError(t, log.CheckSchema(ctx))

	missing, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema() + "_none"})
	require.NoError(t, err)
	require.ErrorIs(t, missing.CheckSchema(ctx), eventstore.ErrSchemaMissing)
	health, err := missing.Health(ctx)
	require.ErrorIs(t, err, eventstore.ErrSchemaMissing)
	require.True(t, health.Reachable)

	log.exec(t, `INSERT INTO {{schema}}.migrations (line, version, name) VALUES ('eventstore', 99, 'from the future')`)
	err = log.CheckSchema(ctx)
	require.ErrorIs(t, err, eventstore.ErrSchemaNewer)
	var fault *eventstore.SchemaError
	require.ErrorAs(t, err, &fault)
	require.Equal(t, 99, fault.Have)
	require.NoError(t, log.Migrate(ctx), "a newer schema is left alone")
	log.exec(t, `DELETE FROM {{schema}}.migrations`)
	require.ErrorIs(t, log.CheckSchema(ctx), eventstore.ErrSchemaMissing)
}

// A log whose tables are of an earlier version is told from a missing one, and Migrate brings it up to date with its events.
func TestMigrateFromAnEarlierVersion(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := t.Context()
	schema := log.Schema() + "_older"
	t.Cleanup(func() { log.exec(t, `DROP SCHEMA IF EXISTS `+schema+` CASCADE`) })
	migrations, err := eventstore.Migrations(schema)
	require.NoError(t, err)
	conn, err := log.Pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	for _, m := range migrations[:len(migrations)-1] {
		_, err := conn.Conn().PgConn().Exec(ctx, m.SQL).ReadAll()
		require.NoError(t, err)
	}
	older, err := eventstore.New(log.Pool, eventstore.Config{Schema: schema, Codec: noteCodec(t)})
	require.NoError(t, err)
	_, err = older.Append(ctx, "a-1", eventstore.NoStream, note{"before"})
	require.NoError(t, err)
	err = older.CheckSchema(ctx)
	require.ErrorIs(t, err, eventstore.ErrSchemaOlder)
	var fault *eventstore.SchemaError
	require.ErrorAs(t, err, &fault)
	require.Equal(t, []int{len(migrations) - 1, len(migrations)}, []int{fault.Have, fault.Want})
	require.NoError(t, older.Migrate(ctx))
	require.NoError(t, older.CheckSchema(ctx))
	require.Len(t, eventstoretest.Collect(t, older.Stream(ctx, "a-1", 0)), 1)
	require.Equal(t, migratetest.Describe(t, log.Pool, log.Schema()), migratetest.Describe(t, log.Pool, schema))
}

// CheckSchema finds a sequence that would break guarantee 3.
func TestCheckSchemaRefusesAnAlteredSequence(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := t.Context()
	log.append(t, "a-1", eventstore.NoStream, note{"1"}, note{"2"}, note{"3"})
	log.exec(t, `ALTER SEQUENCE {{schema}}.events_position_seq CACHE 50`)
	require.ErrorIs(t, log.CheckSchema(ctx), eventstore.ErrSequence)
	log.exec(t, `ALTER SEQUENCE {{schema}}.events_position_seq CACHE 1`)
	require.NoError(t, log.CheckSchema(ctx))
	log.exec(t, `SELECT setval('{{schema}}.events_position_seq', 1)`)
	require.ErrorIs(t, log.CheckSchema(ctx), eventstore.ErrSequence)
}

// Guarantee 3's last line of defence: a session that held back numbers (CACHE) would place an event below fences that
// readers have passed; the append fails instead. It is in the transaction that took the numbers: behind a pooler the next
// one may have another session.
func TestAppendBelowItsFenceFails(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	log.exec(t, `ALTER SEQUENCE {{schema}}.events_position_seq CACHE 10`)
	err := pgx.BeginFunc(ctx, log.Pool, func(tx pgx.Tx) error {
		var first eventstore.Position
		require.NoError(t, tx.QueryRow(ctx, log.sql(`SELECT nextval('{{schema}}.events_position_seq')`)).Scan(&first))
		require.EqualValues(t, 1, first)
		require.EqualValues(t, 11, log.append(t, "b-1", eventstore.NoStream, note{"x"}).Position()) // another session's
		_, err := log.WithTx(tx).Append(ctx, "a-1", eventstore.NoStream, note{"x"})
		return err
	})
	require.ErrorIs(t, err, eventstore.ErrSequence)
	require.ErrorContains(t, err, "position 2 ")
	require.Len(t, eventstoretest.Collect(t, log.All(ctx, 0, eventstore.Filter{})), 1)
}

// Databases that are not UTF-8, on a server of the test's own.
func TestDatabasesThatMigrateRefuses(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 2*time.Minute)
	cluster, err := devdb.StartCluster(ctx, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	admin := eventstoretest.Pool(t, cluster.URL())
	_, err = admin.Exec(ctx, `CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`)
	require.NoError(t, err)
	latin := connectAs(ctx, t, cluster.URL(), func(c *pgx.ConnConfig) { c.Database = "latin" })
	store, err := eventstore.New(latin, eventstore.Config{})
	require.NoError(t, err)
	require.ErrorIs(t, store.Migrate(ctx), eventstore.ErrNotUTF8)
	require.ErrorIs(t, store.CheckSchema(ctx), eventstore.ErrSchemaMissing)
}

func connectAs(ctx context.Context, t *testing.T, url string, change func(*pgx.ConnConfig)) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	change(config.ConnConfig)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func TestHealth(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := t.Context()
	receipt := log.append(t, "a-1", eventstore.NoStream, note{"x"})
	health, err := log.Health(ctx)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), health.ServerTime, 5*time.Minute)
	health.ServerTime = time.Time{}
	require.Equal(t, eventstore.Health{Reachable: true, SchemaVersion: 5, MonthReady: true, MonthAhead: true, Settled: receipt.Position(), Last: receipt.Position()}, health)

	tx, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(context.WithoutCancel(ctx))) }()
	_, err = log.WithTx(tx).Append(ctx, "b-1", eventstore.NoStream, note{"slow"}, note{"slow"})
	require.NoError(t, err)
	health, err = log.Health(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 2, health.Last-health.Settled, "what a slow appender holds back")

	unreachable, err := pgxpool.New(ctx, "postgres://nobody@/nowhere?host=/nonexistent")
	require.NoError(t, err)
	defer unreachable.Close()
	store, err := eventstore.New(unreachable, eventstore.Config{})
	require.NoError(t, err)
	health, err = store.Health(ctx)
	require.Error(t, err)
	require.False(t, health.Reachable)
}

// Guarantee 6, in the database: the parent and each leaf refuse UPDATE, DELETE and TRUNCATE.
func TestAppendOnlyInTheDatabase(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	receipt := log.append(t, "a-1", eventstore.NoStream, note{"x"})
	leaf := "events_" + receipt.RecordedAt.Format("2006_01")
	for _, table := range []string{"events", leaf} {
		for _, statement := range []string{`UPDATE {{schema}}.%s SET event_type = 'y'`, `DELETE FROM {{schema}}.%s`, `TRUNCATE {{schema}}.%s`} {
			_, err := log.Pool.Exec(t.Context(), log.sql(fmt.Sprintf(statement, table)))
			require.ErrorContains(t, err, "append-only", "%s on %s", statement, table)
		}
	}
	require.Len(t, eventstoretest.Collect(t, log.Stream(t.Context(), "a-1", 0)), 1)
}

// A log takes no time but its own, and makes no month far from its clock, unless eventstoretest made it.
func TestForeignClockIsRefused(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := t.Context()
	store, err := eventstore.New(log.Pool, eventstore.Config{
		Schema: log.Schema(), Codec: noteCodec(t),
		Clock: func() time.Time { return time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC) },
	})
	require.NoError(t, err)
	_, err = store.Append(ctx, "a-1", eventstore.NoStream, note{"x"})
	require.ErrorContains(t, err, "takes no time but its own")
	_, err = log.Pool.Exec(ctx, log.sql(`SELECT {{schema}}.ensure_month('2001-01-01')`))
	require.ErrorContains(t, err, "not near the clock")
}

// Guarantee 5: a head ahead of the clock is followed within the allowed skew, and refused beyond it.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 17, 12, 0, 0, 0, time.UTC)
	log := newLog(t, eventstore.Config{Clock: func() time.Time { return now }})
	first := log.append(t, "a-1", eventstore.NoStream, note{"1"})
	now = now.Add(-59 * time.Second)
	second := log.append(t, "a-1", eventstore.Any, note{"2"})
	require.Equal(t, first.RecordedAt, second.RecordedAt)
	now = now.Add(-2 * time.Second)
	_, err := log.Append(t.Context(), "a-1", eventstore.Any, note{"3"})
	require.ErrorIs(t, err, eventstore.ErrClock)
	var clock *eventstore.ClockError
	require.ErrorAs(t, err, &clock)
	require.Equal(t, first.RecordedAt, clock.Head)
	require.Len(t, eventstoretest.Collect(t, log.Stream(t.Context(), "a-1", 0)), 2)
	now = now.Add(time.Hour)
	require.EqualValues(t, 3, log.append(t, "a-1", eventstore.AtVersion(2), note{"3"}).Version, "a refused append burns no version")
}

// A month that is no longer open refuses events and says which; the stream stays as it was.
func TestClosedMonth(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 17, 12, 0, 0, 0, time.UTC)
	log := newLog(t, eventstore.Config{Clock: func() time.Time { return now }})
	log.append(t, "a-1", eventstore.NoStream, note{"1"})
	log.exec(t, `UPDATE {{schema}}.months SET state = 'sealing', revision = revision + 1 WHERE month = '2026-05-01'`)
	before, err := log.Head(t.Context(), "a-1")
	require.NoError(t, err)
	now = now.Add(time.Hour)
	for _, id := range []eventstore.StreamID{"a-1", "b-1"} {
		_, err := log.Append(t.Context(), id, eventstore.Any, eventstore.Event{Data: note{"2"}, Project: "refused"})
		require.ErrorIs(t, err, eventstore.ErrMonthClosed)
		var month *eventstore.MonthError
		require.ErrorAs(t, err, &month)
		require.Equal(t, time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC), month.Month)
	}
	head, err := log.Head(t.Context(), "a-1")
	require.NoError(t, err)
	require.Equal(t, before, head, "a refused append leaves no trace")
	_, err = log.Head(t.Context(), "b-1")
	require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
	now = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	log.append(t, "a-1", eventstore.AtVersion(1), note{"2"})
}
