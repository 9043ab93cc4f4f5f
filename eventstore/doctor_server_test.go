package eventstore_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// On a server of the tests' own: roles, prepared transactions, a crash, durable settings.
func TestDoctorOnAServer(t *testing.T) {
	t.Parallel()
	server := newRoleServer(t, map[string]string{"max_prepared_transactions": "5"})
	for name, test := range map[string]func(*testing.T, *roleServer){
		"a healthy log has no findings":      doctorHealthy,
		"what a role may not see it is told": doctorHidden,
		"who may not make the month":         doctorMonthOfAReader,
		"roles with too many rights":         doctorRights,
		"the role of the program":            doctorConnectedRole,
		"a partition that cannot be read":    doctorUnreadable,
	} {
		t.Run(name, func(t *testing.T) { test(t, server) })
	}
	t.Run("a standby that nobody settles for", func(t *testing.T) { doctorStandby(t, server) })
	t.Run("a prepared transaction, across a crash", func(t *testing.T) { doctorPrepared(t, server) })
}

func doctorHealthy(t *testing.T, server *roleServer) {
	_, appender, reader := server.newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	require.Empty(t, diagnose(t, appender.Store))
	for i := range 3 {
		appender.append(t, "a-1", eventstore.AtVersion(eventstore.Version(2*i)), note{"x"}, note{"y"})
	}
	require.NoError(t, pgx.BeginFunc(ctx, appender.Pool, func(tx pgx.Tx) error {
		require.Empty(t, diagnose(t, appender.WithTx(tx)))
		var timeouts string
		require.NoError(t, tx.QueryRow(ctx, `SELECT current_setting('lock_timeout') || ' ' || current_setting('statement_timeout')`).Scan(&timeouts))
		require.Equal(t, "0 0", timeouts, "a caller's transaction keeps its settings")
		return nil
	}))
	require.Empty(t, diagnose(t, reader.Store))
	stranger, err := server.appender.Begin(ctx) // guarantee 4
	require.NoError(t, err)
	defer func() { require.NoError(t, stranger.Rollback(ctx)) }()
	_, err = stranger.Exec(ctx, `CREATE TEMP TABLE mine (id int)`)
	require.NoError(t, err)
	appender.append(t, "a-1", eventstore.AtVersion(6), note{"z"})
	require.Empty(t, diagnose(t, reader.Store))
	for name, change := range map[string]func(*pgx.ConnConfig){
		"exec":         func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = pgx.QueryExecModeExec },
		"simple":       func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol },
		"serializable": func(c *pgx.ConnConfig) { c.RuntimeParams["default_transaction_isolation"] = "serializable" },
		"Auckland":     func(c *pgx.ConnConfig) { c.RuntimeParams["timezone"] = "Pacific/Auckland" },
	} {
		pool := eventstoretest.Pool(t, server.appender.Config().ConnString(), func(c *pgxpool.Config) {
			c.ConnConfig.User, c.ConnConfig.Password = "appender", "secret"
			change(c.ConnConfig)
		})
		store, err := eventstore.New(pool, eventstore.Config{Schema: appender.Schema()})
		require.NoError(t, err)
		require.Empty(t, diagnose(t, store), name)
	}
}

// The sessions of other roles show their application and nothing more, unless the role has pg_read_all_stats.
func doctorHidden(t *testing.T, server *roleServer) {
	_, appender, reader := server.newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	importer := application(t, server.appender, "importer", "appender")
	_, release := holdBack(t, appender, importer, "a-1")
	defer release()
	found := findings(t, reader.Store, eventstore.FindingSlowAppender)
	require.Len(t, found, 1)
	f := found[0]
	require.Equal(t, "importer", f.Application)
	require.Equal(t, "appender", f.Role)
	require.Equal(t, slog.LevelInfo, f.Severity, "it may be a quick one")
	require.Zero(t, f.Age)
	require.Empty(t, f.Query)
	require.Contains(t, f.Text, "cannot be seen: this role lacks pg_read_all_stats")
	require.EqualValues(t, 1, f.Held)

	server.exec(t, `GRANT pg_read_all_stats TO "Read only"`)
	defer server.exec(t, `REVOKE pg_read_all_stats FROM "Read only"`)
	seen := func() bool {
		found = findings(t, reader.Store, eventstore.FindingSlowAppender, func(f eventstore.Finding) bool { return f.Severity == slog.LevelWarn })
		return len(found) == 1
	}
	require.Eventually(t, seen, 20*time.Second, 50*time.Millisecond, "once it is slow")
	require.Contains(t, found[0].Query, ".append")
	require.Equal(t, "idle in transaction", found[0].State)
	require.NoError(t, ctx.Err())
}

func doctorMonthOfAReader(t *testing.T, server *roleServer) {
	owner, appender, reader := server.newLog(t, eventstore.Config{})
	owner.exec(t, dropMonth(time.Now()))
	found := findings(t, reader.Store, eventstore.FindingMonthMissing)
	require.Len(t, found, 1)
	require.Equal(t, slog.LevelError, found[0].Severity)
	require.Contains(t, found[0].Text, "role Read only may not make it")
	found = findings(t, appender.Store, eventstore.FindingMonthMissing)
	require.Len(t, found, 1)
	require.Equal(t, slog.LevelInfo, found[0].Severity)
	appender.append(t, "a-1", eventstore.NoStream, note{"makes it"})
	require.Empty(t, diagnose(t, reader.Store))
}

// Each right by which a role could get around the fence is found, and gone after the REVOKE that the finding names.
func doctorRights(t *testing.T, server *roleServer) {
	owner, appender, reader := server.newLog(t, eventstore.Config{})
	leaf := "events_" + time.Now().UTC().Format("2006_01")
	server.exec(t, `CREATE ROLE "odd one"`)
	for _, c := range []struct {
		grant, role string
		text        []string
	}{
		{`GRANT INSERT ON {{schema}}.events TO appender`, "appender", []string{"INSERT", ".events"}},
		{`GRANT INSERT, DELETE ON {{schema}}.` + leaf + ` TO "odd one"`, `"odd one"`, []string{"DELETE, INSERT", leaf}},
		{`GRANT TRUNCATE ON {{schema}}.` + leaf + ` TO appender`, "appender", []string{"TRUNCATE"}},
		{`GRANT TRIGGER ON {{schema}}.streams TO appender`, "appender", []string{"TRIGGER", "streams"}},
		{`GRANT UPDATE (version) ON {{schema}}.streams TO appender`, "appender", []string{"UPDATE", "streams"}},
		{`GRANT UPDATE ON {{schema}}.months TO appender`, "appender", []string{"months"}},
		{`GRANT UPDATE ON {{schema}}.settled TO appender`, "appender", []string{"settled"}},
		{`GRANT INSERT ON {{schema}}.settings TO PUBLIC`, "PUBLIC", []string{"Every role (PUBLIC)", "settings"}},
		{`GRANT USAGE ON SEQUENCE {{schema}}.events_position_seq TO appender`, "appender", []string{"USAGE", "events_position_seq"}},
		{`GRANT UPDATE ON SEQUENCE {{schema}}.events_position_seq TO "odd one"`, `"odd one"`, []string{"UPDATE"}},
		{`ALTER DEFAULT PRIVILEGES IN SCHEMA {{schema}} GRANT INSERT, SELECT ON TABLES TO appender`, "appender", []string{"INSERT", "default privileges"}},
		{`ALTER DEFAULT PRIVILEGES GRANT UPDATE ON TABLES TO appender`, "appender", []string{"UPDATE", "default privileges"}},
	} {
		require.Empty(t, diagnose(t, appender.Store), "before %s", c.grant)
		owner.exec(t, c.grant)
		for _, store := range []*eventstore.Store{appender.Store, reader.Store} {
			found := diagnose(t, store)
			require.Len(t, found, 1, c.grant)
			require.Equal(t, eventstore.FindingTooManyRights, found[0].Kind)
			require.Equal(t, c.role, found[0].Role)
			for _, text := range c.text {
				require.Contains(t, found[0].Text, text)
			}
		}
		owner.exec(t, diagnose(t, appender.Store)[0].Remedy)
	}
	require.Empty(t, diagnose(t, appender.Store))

	// A month made under such default privileges is found too, and granting anew takes its rights away.
	owner.exec(t, `ALTER DEFAULT PRIVILEGES IN SCHEMA {{schema}} GRANT INSERT ON TABLES TO appender`)
	owner.exec(t, `SELECT {{schema}}.ensure_month((now() + interval '2 months')::date)`)
	owner.exec(t, `ALTER DEFAULT PRIVILEGES IN SCHEMA {{schema}} REVOKE INSERT ON TABLES FROM appender`)
	require.Len(t, diagnose(t, appender.Store), 1)
	require.NoError(t, owner.Grant(testContext(t, time.Minute), "appender", eventstore.Appender))
	require.Empty(t, diagnose(t, appender.Store))
}

func doctorConnectedRole(t *testing.T, server *roleServer) {
	owner, appender, _ := server.newLog(t, eventstore.Config{})
	server.exec(t, `CREATE ROLE deputy LOGIN PASSWORD 'secret' IN ROLE log_owner`)
	server.exec(t, `CREATE ROLE writer LOGIN PASSWORD 'secret' IN ROLE pg_write_all_data, pg_read_all_data`)
	for why, pool := range map[string]*pgxpool.Pool{
		"owns the log": server.owner,
		"is a member of the log's owner log_owner": server.as(t, "deputy"),
		"is a member of pg_write_all_data":         server.as(t, "writer"),
		"is a superuser":                           server.admin,
	} {
		store, err := eventstore.New(pool, eventstore.Config{Schema: owner.Schema()})
		require.NoError(t, err)
		found := findings(t, store, eventstore.FindingTooManyRights)
		require.Len(t, found, 1, why)
		require.Contains(t, found[0].Text, why)
	}
	require.Empty(t, diagnose(t, appender.Store))
}

func doctorUnreadable(t *testing.T, server *roleServer) {
	owner, appender, reader := server.newLog(t, eventstore.Config{})
	appender.append(t, "a-1", eventstore.NoStream, note{"x"})
	owner.exec(t, `REVOKE SELECT ON {{schema}}.events_`+time.Now().UTC().Format("2006_01")+` FROM "Read only"`)
	found := diagnose(t, reader.Store)
	require.Len(t, found, 1)
	require.Equal(t, eventstore.FindingMonthMismatch, found[0].Kind)
	requireNotAllowed(t, firstError(reader.All(testContext(t, time.Minute), 0, eventstore.Filter{})), "a reader of the log")
	owner.exec(t, found[0].Remedy)
	require.Empty(t, diagnose(t, reader.Store))
	require.Len(t, eventstoretest.Collect(t, reader.All(testContext(t, time.Minute), 0, eventstore.Filter{})), 1)
}

// Readers on a standby go by the stored settled position: it must not fall behind unnoticed. The events are two minutes old.
func doctorStandby(t *testing.T, server *roleServer) {
	owner, appender, reader := server.newLog(t, eventstore.Config{Clock: func() time.Time { return time.Now().Add(-2 * time.Minute) }, MaxClockSkew: time.Hour})
	ctx := testContext(t, time.Minute)
	appender.append(t, "a-1", eventstore.NoStream, note{"1"}, note{"2"})
	behind := func(store *eventstore.Store) []eventstore.Finding {
		return findings(t, store, eventstore.FindingSettledBehind)
	}
	require.Empty(t, behind(reader.Store), "there is no standby")

	standby, err := server.cluster.StartStandby(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, standby.Close()) }()
	there, err := eventstore.New(eventstoretest.Pool(t, standby.URL(), func(c *pgxpool.Config) {
		c.ConnConfig.User, c.ConnConfig.Password = "Read only", "secret"
	}), eventstore.Config{Schema: owner.Schema()})
	require.NoError(t, err)
	for _, store := range []*eventstore.Store{reader.Store, there} {
		require.Eventually(t, func() bool { return len(behind(store)) == 1 }, 20*time.Second, 20*time.Millisecond)
		found := behind(store)[0]
		require.Zero(t, found.Position)
		require.GreaterOrEqual(t, found.Held, int64(2))
		require.GreaterOrEqual(t, found.Age, time.Minute)
	}
	require.Len(t, findings(t, there, eventstore.FindingUnseen), 1, "fences cannot be seen there")
	require.Empty(t, eventstoretest.Collect(t, there.All(ctx, 0, eventstore.Filter{})))
	appender.exec(t, behind(reader.Store)[0].Remedy)
	require.Empty(t, behind(reader.Store))
	require.Eventually(t, func() bool { return len(behind(there)) == 0 }, 20*time.Second, 20*time.Millisecond)
	require.Len(t, eventstoretest.Collect(t, there.All(ctx, 0, eventstore.Filter{})), 2)
}

// A prepared transaction has no session. It is named by its gid, before a crash of the server and after it.
func doctorPrepared(t *testing.T, server *roleServer) {
	_, appender, _ := server.newLog(t, eventstore.Config{})
	ctx := testContext(t, 2*time.Minute)
	const gid = "it's the \"importer's\" 1"
	conn, err := appender.Pool.Acquire(ctx)
	require.NoError(t, err)
	tx, err := conn.Begin(ctx)
	require.NoError(t, err)
	receipt, err := appender.WithTx(tx).Append(ctx, "a-1", eventstore.NoStream, note{"x"})
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `PREPARE TRANSACTION '`+strings.ReplaceAll(gid, "'", "''")+`'`)
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(ctx)) // it is no longer the session's: nothing is rolled back
	conn.Release()
	appender.append(t, "b-1", eventstore.NoStream, note{"y"})
	named := func(when string) eventstore.Finding {
		var found []eventstore.Finding
		require.Eventually(t, func() bool {
			found = findings(t, appender.Store, eventstore.FindingSlowAppender)
			return len(found) > 0
		}, 20*time.Second, 50*time.Millisecond, when)
		require.Len(t, found, 1, when)
		require.Equal(t, gid, found[0].Prepared, when)
		require.Zero(t, found[0].PID, when)
		require.Equal(t, "appender", found[0].Role, when)
		require.Equal(t, receipt.Position()-1, found[0].Position, when)
		health, err := appender.Health(ctx)
		require.NoError(t, err)
		require.EqualValues(t, health.Last-health.Settled, found[0].Held, when)
		require.GreaterOrEqual(t, found[0].Held, int64(2), when)
		return found[0]
	}
	named("before the crash")
	require.NoError(t, server.cluster.Kill())
	require.NoError(t, server.cluster.Start(ctx))
	pool := eventstoretest.Pool(t, server.cluster.URL(), func(c *pgxpool.Config) { c.ConnConfig.User, c.ConnConfig.Password = "appender", "secret" })
	appender.Pool = pool
	appender.Store, err = eventstore.New(pool, eventstore.Config{Schema: appender.Schema(), Codec: noteCodec(t)})
	require.NoError(t, err)
	found := named("after the crash")
	appender.exec(t, found.Remedy)
	require.Empty(t, diagnose(t, appender.Store))
	require.Len(t, eventstoretest.Collect(t, appender.All(ctx, 0, eventstore.Filter{})), 1)
}
