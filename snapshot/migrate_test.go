package snapshot_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/internal/devdb"
	"github.com/sight-platform/hindsight/internal/migrate/migratetest"
	"github.com/sight-platform/hindsight/snapshot"
)

func TestMigrationsAreWhatMigrateRuns(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	one := newLog(t)
	other := eventstoretest.New(t, eventstore.Config{})
	steps, err := snapshot.Migrations(other.Schema())
	require.NoError(t, err)
	for _, step := range steps {
		_, err := other.Pool.Exec(ctx, step.SQL)
		require.NoError(t, err)
	}
	require.Equal(t, migratetest.Describe(t, one.Pool, one.Schema()), migratetest.Describe(t, other.Pool, other.Schema()))
	require.NoError(t, snapshot.Migrate(ctx, other.Store), "nothing to do")
	_, err = snapshot.Migrations(`a"b`)
	require.ErrorIs(t, err, eventstore.ErrInvalid)
}

func TestWithoutTables(t *testing.T) {
	t.Parallel()
	codec, err := eventstore.NewCodec(eventstore.Type[note]("note"))
	require.NoError(t, err)
	log := eventstoretest.New(t, eventstore.Config{Codec: codec})
	write(t, log, "a-1", 1)
	loader := newLoader(t, log, diaryFold(), snapshot.Config{})
	_, err = loader.Load(t.Context(), "a-1")
	require.ErrorIs(t, err, snapshot.ErrNotMigrated)
	_, err = loader.AsOf(t.Context(), "a-1", snapshot.At{Recorded: time.Now().Add(-time.Second)})
	require.ErrorIs(t, err, snapshot.ErrNotMigrated)
	_, err = loader.Audit(t.Context(), 1)
	require.ErrorIs(t, err, snapshot.ErrNotMigrated)
	require.ErrorIs(t, snapshot.Grant(t.Context(), log.Store, "nobody"), snapshot.ErrNotMigrated)
}

// A program that may append and load, and no more, has all of a loader.
func TestGrant(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	server, err := devdb.StartCluster(ctx, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	admin := eventstoretest.Pool(t, server.URL())
	_, err = admin.Exec(ctx, `CREATE ROLE service LOGIN PASSWORD 'secret'`)
	require.NoError(t, err)
	codec, err := eventstore.NewCodec(eventstore.Type[note]("note"))
	require.NoError(t, err)
	open := func(pool *pgxpool.Pool) *eventstoretest.Log {
		store, err := eventstore.New(pool, eventstore.Config{Codec: codec})
		require.NoError(t, err)
		return &eventstoretest.Log{Store: store, Pool: pool}
	}
	owner := open(admin)
	service := open(eventstoretest.Pool(t, server.URL(), func(c *pgxpool.Config) { c.ConnConfig.User, c.ConnConfig.Password = "service", "secret" }))
	require.NoError(t, owner.Migrate(ctx))
	require.NoError(t, snapshot.Migrate(ctx, owner.Store))
	require.NoError(t, owner.Grant(ctx, "service", eventstore.Appender))
	write(t, service, "a-1", 10)
	loader := newLoader(t, service, diaryFold(), snapshot.Config{Every: 2, Keep: 2})
	_, err = loader.Load(ctx, "a-1")
	require.ErrorIs(t, err, eventstore.ErrNotAllowed)
	require.ErrorIs(t, snapshot.Grant(ctx, service.Store, "service"), eventstore.ErrNotAllowed)
	require.ErrorIs(t, snapshot.Grant(ctx, owner.Store, ""), eventstore.ErrInvalid)

	require.NoError(t, snapshot.Grant(ctx, owner.Store, "service"))
	for range 2 {
		_, err = loader.Load(ctx, "a-1")
		require.NoError(t, err)
	}
	found, err := loader.AsOf(ctx, "a-1", snapshot.At{Recorded: time.Now().Add(-time.Minute)})
	require.NoError(t, err)
	require.Zero(t, found.Version)
	report, err := loader.Audit(ctx, 10)
	require.NoError(t, err)
	require.Equal(t, 1, report.Checked)
	_, err = loader.Prune(ctx)
	require.NoError(t, err)
	_, err = service.Pool.Exec(ctx, `DROP TABLE hindsight.snapshots`)
	require.Error(t, err)
}
