package analytics_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/devdb"
	"github.com/sight-platform/hindsight/internal/pg"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// roles are the programs on a server of a test's own, each with a role that logs in.
type roles struct {
	admin                 *pgxpool.Pool
	owner, worker, reader *eventstoretest.Log
}

func newRoles(t *testing.T) roles {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	server, err := devdb.StartCluster(ctx, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	admin := eventstoretest.Pool(t, server.URL())
	as := func(role string) *eventstoretest.Log {
		_, err := admin.Exec(ctx, `CREATE ROLE `+pgx.Identifier{role}.Sanitize()+` LOGIN PASSWORD 'secret'`)
		require.NoError(t, err)
		pool := eventstoretest.Pool(t, server.URL(), func(c *pgxpool.Config) { c.ConnConfig.User, c.ConnConfig.Password = role, "secret" })
		store, err := eventstore.New(pool, eventstore.Config{Codec: focusgroup.Codec()})
		require.NoError(t, err)
		return &eventstoretest.Log{Store: store, Pool: pool}
	}
	r := roles{admin, as("log_owner"), as("The worker"), as("reader")}
	_, err = admin.Exec(ctx, `GRANT CREATE, TEMPORARY ON DATABASE hindsight TO log_owner WITH GRANT OPTION`)
	require.NoError(t, err)
	return r
}

// Roles with no more rights than they need run the star, and read it. A right that is missing parks nothing.
func TestGrant(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	roles := newRoles(t)
	of := func(log *eventstoretest.Log) (*analytics.Star, *projection.Runner) {
		star, err := analytics.New(log.Store, analytics.Config{})
		require.NoError(t, err)
		runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{star}})
		require.NoError(t, err)
		return star, runner
	}
	granter, owner := of(roles.owner)
	star, runner := of(roles.worker)
	require.NoError(t, roles.owner.Migrate(ctx))
	require.ErrorIs(t, granter.Grant(ctx, "The worker"), projection.ErrNotMigrated)
	require.NoError(t, owner.Migrate(ctx))
	require.NoError(t, roles.owner.Grant(ctx, "The worker", eventstore.Appender))
	require.NoError(t, owner.Grant(ctx, "The worker"))
	appendWorld(t, roles.worker)

	running, leave := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(running) }()
	err := star.Prepare(ctx, &projection.Batch{Events: []eventstore.Recorded{{Type: focusgroup.TypeResponse, OccurredAt: smallWorld()}}})
	require.Equal(t, pg.InsufficientPrivilege, pg.Code(err), "%v", err)
	require.ErrorIs(t, star.Grant(ctx, "The worker"), eventstore.ErrNotAllowed, "only the owner may")
	require.ErrorIs(t, star.GrantReader(ctx, "The worker"), eventstore.ErrNotAllowed, "only the owner may")
	for _, role := range []string{"", "public", `quo"te`} {
		require.ErrorIs(t, granter.Grant(ctx, role), eventstore.ErrInvalid, role)
	}
	require.NoError(t, granter.Grant(ctx, "The worker"))
	settled, err := roles.worker.Settled(ctx)
	require.NoError(t, err)
	require.NoError(t, runner.WaitFor(ctx, "analytics", settled))
	parked, err := runner.Parked(ctx, "analytics", 10)
	require.NoError(t, err)
	require.Empty(t, parked, "an operator has mended it")
	requireOracle(t, roles.worker, star, "UTC")
	require.NoError(t, runner.Reset(ctx, "analytics"))
	require.NoError(t, runner.WaitFor(ctx, "analytics", settled))
	requireOracle(t, roles.worker, star, "UTC")
	report := checked(t, star)
	require.Empty(t, byOutcome(report, analytics.Failed))
	require.Empty(t, byOutcome(report, analytics.Errored))
	leave()
	require.NoError(t, <-ended)
	refused := func(log *eventstoretest.Log, statements ...string) {
		t.Helper()
		for _, sql := range statements {
			_, err := log.Pool.Exec(ctx, sql)
			require.Equal(t, pg.InsufficientPrivilege, pg.Code(err), "%s: %v", sql, err)
		}
	}
	refused(roles.worker, `CREATE TABLE hindsight.mine (x int)`, `DROP TABLE hindsight.dim_users_v1`, `ALTER TABLE hindsight.fact_llm_usage_v1 ADD COLUMN x int`)
	_, err = roles.worker.Pool.Exec(ctx, `SELECT hindsight.analytics_month_v1('dim_users', now())`)
	require.ErrorContains(t, err, "no fact dim_users")

	config := roles.reader.Pool.Config()
	_, err = analytics.Open(ctx, config, analytics.ReaderConfig{})
	require.Error(t, err)
	require.NoError(t, granter.GrantReader(ctx, "reader"))
	reader := openReader(ctx, t, config, analytics.ReaderConfig{})
	require.NoError(t, reader.Query(ctx, func(tx pgx.Tx, _ analytics.Fresh) error {
		var turns int
		err := tx.QueryRow(ctx, `SELECT count(*) FROM fact_discussion_turns`).Scan(&turns)
		require.Equal(t, 18, turns)
		return err
	}))
	refused(roles.reader, `SELECT FROM hindsight.events`, `SELECT FROM hindsight.streams`, `DELETE FROM hindsight.dim_users_v1`, `DELETE FROM hindsight.dim_users`,
		`SELECT hindsight.analytics_month_v1('fact_llm_usage', now())`)
}
