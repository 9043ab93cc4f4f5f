package projection_test

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/migrate/migratetest"
	"github.com/sight-platform/hindsight/projection"
)

// The exported SQL, run by hand on an empty database after the log's, gives the same schema as Migrate.
func TestExportedSQLGivesTheSameSchema(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	require.NoError(t, newRunner(t, log, quick(specOnly{Name: "p"})).Migrate(ctx))
	schema := log.Schema() + "_export"
	t.Cleanup(func() {
		_, err := log.Pool.Exec(context.WithoutCancel(ctx), `DROP SCHEMA IF EXISTS `+schema+` CASCADE`)
		require.NoError(t, err)
	})
	conn, err := log.Pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	for _, export := range []func(string) ([]eventstore.Migration, error){eventstore.Migrations, projection.Migrations} {
		steps, err := export(schema)
		require.NoError(t, err)
		require.NotEmpty(t, steps)
		for _, step := range steps {
			_, err := conn.Conn().PgConn().Exec(ctx, step.SQL).ReadAll()
			require.NoError(t, err)
		}
	}
	require.Equal(t, migratetest.Describe(t, log.Pool, log.Schema()), migratetest.Describe(t, log.Pool, schema))

	exported := logOn(t, log.Pool, eventstore.Config{Schema: schema})
	runner := newRunner(t, exported, quick(&tally{}))
	stop := running(t, runner)
	waitFor(t, runner, "tally", appendTo(t, exported, "a-1", "x").Position())
	stop()
	_, err = projection.Migrations(`not a "name"`)
	require.ErrorIs(t, err, eventstore.ErrInvalid)
}

// A process may start before its database: Run waits until it can be reached.
func TestRunWaitsForItsDatabase(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := closed.Addr().(*net.TCPAddr).Port
	require.NoError(t, closed.Close())
	var up atomic.Bool
	config := log.Pool.Config().Copy()
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		if !up.Load() {
			c.Host, c.Port, c.Fallbacks = "127.0.0.1", uint16(port), nil
		}
		return nil
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	tries := &counted{Handler: slog.DiscardHandler, message: "making the tables of projections; trying again"}
	early := quick(&tally{})
	early.Logger = slog.New(tries)
	running(t, newRunner(t, logOn(t, pool, eventstore.Config{Schema: log.Schema()}), early))
	last := appendTo(t, log, "a-1", "x")
	require.Eventually(t, func() bool { return tries.n.Load() >= 2 }, 20*time.Second, 5*time.Millisecond)
	watch := newRunner(t, log, quick(&tally{}))
	_, err = watch.Status(t.Context())
	require.ErrorIs(t, err, projection.ErrNotMigrated)
	up.Store(true)
	waitFor(t, watch, "tally", last.Position())
	requireFold(t, log, "tally")
}
