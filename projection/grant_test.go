package projection_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/projection"
)

// ledger writes in each way that a batch knows, into tables with sequences.
type ledger struct{ poison failing }

func (*ledger) Spec() projection.Spec {
	return projection.Spec{Name: "ledger", Tables: []projection.Table{
		{Name: "ledger_rows", SQL: `CREATE TABLE {{table}} (n bigserial, position bigint)`},
		{Name: "ledger_words", SQL: `CREATE TABLE {{table}} (n bigserial, word text PRIMARY KEY, position bigint)`},
	}}
}

func (l *ledger) Apply(ctx context.Context, tx pgx.Tx, batch *projection.Batch) error {
	var rows, words [][]any
	for _, e := range batch.Events {
		if err := l.poison.check(e); err != nil {
			return err
		}
		rows = append(rows, []any{int64(e.Position)})
		text, copies := e.Data.(note).Text, 1
		if text == "many" {
			copies = 1500 // through a temporary table
		}
		for i := range copies {
			words = append(words, []any{fmt.Sprintf("%s %d", text, i), int64(e.Position)})
		}
	}
	if err := batch.Copy(ctx, tx, "ledger_rows", []string{"position"}, rows); err != nil {
		return err
	}
	return batch.Upsert(ctx, tx, "ledger_words", []string{"word", "position"}, []string{"word"}, words)
}

// roles are the programs on a server of a test's own: the log's owner, one that may work, and one that may read.
type roles struct {
	admin, owner, worker, reader *pgxpool.Pool
}

func newRoles(t *testing.T) *roles {
	t.Helper()
	server := newServer(t)
	r := &roles{admin: eventstoretest.Pool(t, server.URL())}
	as := func(role string) *pgxpool.Pool {
		r.exec(t, `CREATE ROLE `+pgx.Identifier{role}.Sanitize()+` LOGIN PASSWORD 'secret'`)
		return eventstoretest.Pool(t, server.URL(), func(c *pgxpool.Config) { c.ConnConfig.User, c.ConnConfig.Password = role, "secret" })
	}
	r.owner, r.worker, r.reader = as("log_owner"), as("The worker"), as("reader")
	r.exec(t, `GRANT CREATE ON DATABASE hindsight TO log_owner`)
	r.exec(t, `REVOKE TEMPORARY ON DATABASE hindsight FROM PUBLIC`)
	return r
}

func (r *roles) exec(t *testing.T, sql string) {
	t.Helper()
	_, err := r.admin.Exec(testContext(t, time.Minute), sql)
	require.NoError(t, err)
}

func requireNotAllowed(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	_, err := pool.Exec(testContext(t, time.Minute), sql)
	var refusal *pgconn.PgError
	require.ErrorAs(t, err, &refusal, sql)
	require.Equal(t, "42501", refusal.Code, "%s: %v", sql, err)
}

// A role with no more rights than it needs runs and operates projections, and its appends are those of an inline one.
func TestGrant(t *testing.T) {
	t.Parallel()
	roles := newRoles(t)
	ctx := testContext(t, 2*time.Minute)
	live, now := &ledger{poison: failing{text: "poison"}}, &tally{spec: projection.Spec{Name: "now", Inline: true}}
	hooks, err := projection.Inline(now)
	require.NoError(t, err)
	owner, log := logOn(t, roles.owner, eventstore.Config{}), logOn(t, roles.worker, eventstore.Config{InTx: hooks})
	config := quick(live, now)
	config.Retries = 1
	granter := newRunner(t, owner, config)
	require.NoError(t, owner.Migrate(ctx))
	require.NoError(t, newRunner(t, owner, quick(&tally{spec: projection.Spec{Name: "foreign"}})).Migrate(ctx))
	require.NoError(t, owner.Grant(ctx, "The worker", eventstore.Appender))
	require.ErrorIs(t, granter.Grant(ctx, "The worker"), eventstore.ErrNotAllowed, "the database is another's")
	roles.exec(t, `GRANT TEMPORARY ON DATABASE hindsight TO log_owner WITH GRANT OPTION`)
	require.ErrorIs(t, granter.Grant(ctx, "The worker"), projection.ErrNotMigrated)
	require.NoError(t, granter.Migrate(ctx))
	for range 2 {
		require.NoError(t, granter.Grant(ctx, "The worker"))
	}
	for _, role := range []string{"", "public", `quo"te`} {
		require.ErrorIs(t, granter.Grant(ctx, role), eventstore.ErrInvalid, role)
	}
	require.ErrorContains(t, granter.Grant(ctx, "nobody here"), "does not exist")

	runner := newRunner(t, log, config)
	running(t, runner)
	waitFor(t, runner, "ledger", appendTo(t, log, "a-1", "few", "many").Position())
	require.Eventually(t, func() bool {
		status, err := runner.Status(ctx)
		return err == nil && status[1].Inline
	}, 20*time.Second, 20*time.Millisecond)
	appendTo(t, log, "a-1", "at once")
	requireFold(t, log, "now")
	operate(t, log, runner, live)
	requireFold(t, log, "now")

	for _, sql := range []string{
		`INSERT INTO hindsight.events SELECT * FROM hindsight.events`,
		`UPDATE hindsight.streams SET version = 7`,
		`INSERT INTO hindsight.checkpoints (name, version, shard) VALUES ('mine', 1, 0)`,
		`DELETE FROM hindsight.projections`,
		`DROP TABLE hindsight.ledger_rows_v1`,
		`ALTER TABLE hindsight.ledger_rows_v1 ADD COLUMN x int`,
		`CREATE TABLE hindsight.mine (x int)`,
		`INSERT INTO hindsight.foreign_seen_v1 (position) VALUES (1)`,
		`TRUNCATE hindsight.foreign_count_v1`,
	} {
		requireNotAllowed(t, roles.worker, sql)
	}
	require.ErrorIs(t, runner.Grant(ctx, "reader"), eventstore.ErrNotAllowed, "only the owner may")
	require.NoError(t, owner.Grant(ctx, "reader", eventstore.Reader))
	readersAreRefused(t, logOn(t, roles.reader, eventstore.Config{}), config)
}

// operate does all that an operator can do.
func operate(t *testing.T, log *eventstoretest.Log, runner *projection.Runner, live *ledger) {
	t.Helper()
	ctx := testContext(t, time.Minute)
	parked := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool {
			list, err := runner.Parked(ctx, "ledger", 10)
			return err == nil && len(list) == n && (n == 0 || list[0].RetryAt == nil)
		}, 20*time.Second, 20*time.Millisecond)
	}
	skipped := appendTo(t, log, "b-1", "poison")
	waitFor(t, runner, "ledger", skipped.Position())
	parked(1)
	require.NoError(t, runner.Skip(ctx, "ledger", skipped.Position(), "agreed"))
	parked(0)
	waitFor(t, runner, "ledger", appendTo(t, log, "c-1", "poison").Position())
	parked(1)
	live.poison.off.Store(true)
	require.NoError(t, runner.Retry(ctx, "ledger", ""))
	parked(0)
	require.NoError(t, runner.Pause(ctx, "ledger", "a look"))
	status, err := runner.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, projection.Paused, status[0].State)
	require.NoError(t, runner.Resume(ctx, "ledger"))
	require.NoError(t, runner.Reset(ctx, "ledger"))
	waitFor(t, runner, "ledger", appendTo(t, log, "a-1", "after the reset").Position())
	_, err = runner.Doctor(ctx)
	require.NoError(t, err)
	var rows, events, words int
	require.NoError(t, log.Pool.QueryRow(ctx, `
SELECT (SELECT count(DISTINCT position) FROM hindsight.ledger_rows), (SELECT count(*) FROM hindsight.events),
       (SELECT count(*) FROM hindsight.ledger_words)`).Scan(&rows, &events, &words))
	require.Equal(t, events, rows)
	require.Equal(t, 1500+len([]string{"few", "at once", "poison", "after the reset"}), words)
}

// readersAreRefused: the rights of a reader are not enough, and that is said.
func readersAreRefused(t *testing.T, log *eventstoretest.Log, config projection.Config) {
	t.Helper()
	ctx := testContext(t, time.Minute)
	name := config.Projections[0].Spec().Name
	runner := newRunner(t, log, config)
	_, err := runner.Status(ctx)
	for call, err := range map[string]error{
		"Status": err, "Run": runner.Run(ctx), "Pause": runner.Pause(ctx, name, "x"), "Reset": runner.Reset(ctx, name),
		"Retry": runner.Retry(ctx, name, ""), "WaitFor": runner.WaitFor(ctx, name, 1), "Grant": runner.Grant(ctx, "reader"),
	} {
		require.ErrorIs(t, err, eventstore.ErrNotAllowed, call)
	}
}
