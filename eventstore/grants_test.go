package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/internal/devdb"
)

// roleServer is a server of a test's own, where roles can be made: a role is the whole server's, and a database given for
// tests need not allow it. Logs there belong to the role log_owner, which is no superuser; programs are Appender or Reader.
type roleServer struct {
	cluster                        *devdb.Cluster
	admin, owner, appender, reader *pgxpool.Pool
	logs                           atomic.Int32
}

func newRoleServer(t *testing.T, settings map[string]string) *roleServer {
	t.Helper()
	cluster, err := devdb.StartCluster(testContext(t, 2*time.Minute), settings)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	s := &roleServer{cluster: cluster, admin: eventstoretest.Pool(t, cluster.URL())}
	s.exec(t, `CREATE ROLE log_owner LOGIN PASSWORD 'secret'`)
	s.exec(t, `GRANT CREATE ON DATABASE hindsight TO log_owner`)
	s.exec(t, `CREATE ROLE appender LOGIN PASSWORD 'secret'`)
	s.exec(t, `CREATE ROLE "Read only" LOGIN PASSWORD 'secret'`)
	s.owner, s.appender, s.reader = s.as(t, "log_owner"), s.as(t, "appender"), s.as(t, "Read only")
	return s
}

func (s *roleServer) exec(t testing.TB, sql string) {
	t.Helper()
	_, err := s.admin.Exec(testContext(t, time.Minute), sql)
	require.NoError(t, err)
}

func (s *roleServer) as(t testing.TB, role string) *pgxpool.Pool {
	t.Helper()
	return eventstoretest.Pool(t, s.cluster.URL(), func(c *pgxpool.Config) { c.ConnConfig.User, c.ConnConfig.Password = role, "secret" })
}

// newLog makes a log and returns it as three programs see it.
func (s *roleServer) newLog(t testing.TB, config eventstore.Config) (owner, appender, reader testLog) {
	t.Helper()
	ctx := testContext(t, time.Minute)
	config.Schema = fmt.Sprintf("log_%d", s.logs.Add(1))
	if config.Codec == nil {
		config.Codec = noteCodec(t)
	}
	open := func(pool *pgxpool.Pool) testLog {
		store, err := eventstore.New(pool, config)
		require.NoError(t, err)
		return testLog{&eventstoretest.Log{Store: store, Pool: pool}}
	}
	owner, appender, reader = open(s.owner), open(s.appender), open(s.reader)
	require.NoError(t, owner.Migrate(ctx))
	if config.Clock != nil {
		owner.exec(t, `INSERT INTO {{schema}}.settings VALUES ('test_clock', 'on')`)
	}
	require.NoError(t, owner.Grant(ctx, "appender", eventstore.Appender))
	require.NoError(t, owner.Grant(ctx, "Read only", eventstore.Reader))
	return owner, appender, reader
}

func requireNotAllowed(t testing.TB, err error, what string) {
	t.Helper()
	var refusal *pgconn.PgError
	require.True(t, errors.As(err, &refusal), "%s: %v", what, err)
	require.Equal(t, "42501", refusal.Code, "%s: %v", what, err)
}

func TestGrant(t *testing.T) {
	t.Parallel()
	server := newRoleServer(t, nil)
	for name, test := range map[string]func(*testing.T, *roleServer){
		"an appender keeps the whole contract":   grantedConformance,
		"nothing gets around the functions":      grantedRefusals,
		"a reader reads everything":              grantedReading,
		"months made later":                      grantedMonths,
		"a month made at the same moment":        grantedMonthRace,
		"what is too much is taken away":         grantedAnew,
		"who may not grant, and to whom":         grantedWrongly,
		"in a caller's transaction":              grantedInTx,
		"every function has its grant":           grantedFunctions,
		"functions that are not public any more": grantedWithoutPublic,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, server)
		})
	}
}

// Guarantees 1, 2, 3, 5, 6 and 8 hold for a program that may do no more than it needs; the log belongs to an ordinary role.
func grantedConformance(t *testing.T, server *roleServer) {
	eventstoretest.Conformance(t, func(tb testing.TB, config eventstore.Config) *eventstoretest.Log {
		owner, appender, _ := server.newLog(tb, config)
		owner.exec(tb, `GRANT CREATE ON SCHEMA {{schema}} TO appender`) // a clause has a table of its own beside the log
		return appender.Log
	})
}

func grantedRefusals(t *testing.T, server *roleServer) {
	_, appender, reader := server.newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	receipt := appender.append(t, "a-1", eventstore.NoStream, note{"x"})
	leaf := "events_" + receipt.RecordedAt.Format("2006_01")
	statements := []string{
		`SELECT {{schema}}.make_month('2001-01-01')`,
		`SELECT {{schema}}.move_positions(7)`,
		`SELECT nextval('{{schema}}.events_position_seq')`,
		`SELECT setval('{{schema}}.events_position_seq', 1)`,
		`ALTER SEQUENCE {{schema}}.events_position_seq CACHE 10`,
		`ALTER TABLE {{schema}}.` + leaf + ` DISABLE TRIGGER ALL`,
		`CREATE TRIGGER mine BEFORE INSERT ON {{schema}}.streams FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()`,
		`CREATE TABLE {{schema}}.mine (id int)`,
	}
	for _, table := range []string{"events", leaf} {
		statements = append(statements,
			`INSERT INTO {{schema}}.`+table+` DEFAULT VALUES`,
			`UPDATE {{schema}}.`+table+` SET position = 7`)
	}
	for _, table := range []string{"streams", "months", "settled", "settings", "imports", "import_skips", "migrations"} {
		statements = append(statements, `INSERT INTO {{schema}}.`+table+` DEFAULT VALUES`)
	}
	statements = append(statements,
		`UPDATE {{schema}}.streams SET version = 7`, `UPDATE {{schema}}.months SET state = 'sealed'`, `UPDATE {{schema}}.settled SET position = 7`,
		`UPDATE {{schema}}.settings SET value = 'on'`, `UPDATE {{schema}}.migrations SET version = 7`)
	for _, table := range []string{"events", leaf, "streams", "months", "settled", "settings", "imports", "import_skips", "migrations"} {
		statements = append(statements, `DELETE FROM {{schema}}.`+table, `TRUNCATE {{schema}}.`+table)
	}
	for _, log := range []testLog{appender, reader} {
		for _, statement := range statements {
			_, err := log.Pool.Exec(ctx, log.sql(statement))
			requireNotAllowed(t, err, statement)
		}
	}
	require.EqualValues(t, 2, appender.append(t, "a-1", eventstore.AtVersion(1), note{"y"}).Version)
}

func grantedReading(t *testing.T, server *roleServer) {
	_, appender, reader := server.newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	for i := range 3 {
		appender.append(t, "a-1", eventstore.AtVersion(eventstore.Version(i)), note{fmt.Sprint(i)})
	}
	require.NoError(t, reader.CheckSchema(ctx))
	health, err := reader.Health(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 3, health.Settled)
	require.Len(t, eventstoretest.Collect(t, reader.Stream(ctx, "a-1", 0)), 3)
	require.Len(t, eventstoretest.Collect(t, reader.Backward(ctx, "a-1", 0)), 3)
	require.Len(t, eventstoretest.Collect(t, reader.All(ctx, 0, eventstore.Filter{Categories: []string{"a"}})), 3)
	_, err = reader.Head(ctx, "a-1")
	require.NoError(t, err)
	page, err := reader.Page(ctx, eventstore.PageQuery{Limit: 2})
	require.NoError(t, err)
	after, err := reader.Resume(ctx, page.Next)
	require.NoError(t, err)
	var followed []eventstore.Version
	for event, err := range reader.Follow(ctx, after, eventstore.Filter{}) {
		require.NoError(t, err)
		if followed = append(followed, event.Version); event.Version == 3 {
			appender.append(t, "a-1", eventstore.AtVersion(3), note{"3"})
		} else {
			break
		}
	}
	require.Equal(t, []eventstore.Version{3, 4}, followed)
	for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead} {
		_, err := appender.Settle(ctx)
		require.NoError(t, err)
		require.NoError(t, pgx.BeginTxFunc(ctx, reader.Pool, pgx.TxOptions{IsoLevel: level, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			require.Len(t, eventstoretest.Collect(t, reader.WithTx(tx).All(ctx, 0, eventstore.Filter{})), 4)
			require.Len(t, eventstoretest.Collect(t, reader.WithTx(tx).Stream(ctx, "a-1", 0)), 4)
			return nil
		}))
	}

	_, err = reader.Append(ctx, "a-1", eventstore.Any, note{"x"})
	requireNotAllowed(t, err, "an append")
	_, err = reader.Settle(ctx)
	requireNotAllowed(t, err, "settling")
	_, err = reader.Pool.Exec(ctx, reader.sql(`SELECT {{schema}}.ensure_month(now()::date)`))
	requireNotAllowed(t, err, "making a month")
	require.Len(t, eventstoretest.Collect(t, reader.Stream(ctx, "a-1", 0)), 4)
}

// A month that an appender's append makes can be read by both, through its partition.
func grantedMonths(t *testing.T, server *roleServer) {
	now := time.Date(2031, 11, 30, 12, 0, 0, 0, time.UTC)
	_, appender, reader := server.newLog(t, eventstore.Config{Clock: func() time.Time { return now }})
	ctx := testContext(t, time.Minute)
	appender.append(t, "a-1", eventstore.NoStream, note{"1"})
	now = now.AddDate(0, 0, 1)
	appender.append(t, "a-1", eventstore.AtVersion(1), note{"2"})
	now = now.AddDate(0, 1, 0)
	require.NoError(t, pgx.BeginFunc(ctx, server.appender, func(tx pgx.Tx) error { // without a pool, it is made inside
		alone, err := eventstore.New(nil, eventstore.Config{Schema: appender.Schema(), Clock: func() time.Time { return now }})
		require.NoError(t, err)
		_, err = alone.WithTx(tx).Append(ctx, "a-1", eventstore.AtVersion(2), eventstore.Raw{Type: "note", JSON: rawJSON(`{"text":"3"}`)})
		return err
	}))
	for _, log := range []testLog{appender, reader} {
		require.Len(t, eventstoretest.Collect(t, log.Stream(ctx, "a-1", 0)), 3)
		require.Len(t, eventstoretest.Collect(t, log.All(ctx, 0, eventstore.Filter{})), 3)
	}
	for _, month := range []string{"2031_11", "2031_12", "2032_01"} {
		_, err := reader.Pool.Exec(ctx, reader.sql(`SELECT FROM {{schema}}.events_`+month))
		require.NoError(t, err)
		_, err = appender.Pool.Exec(ctx, appender.sql(`INSERT INTO {{schema}}.events_`+month+` SELECT * FROM {{schema}}.events`))
		requireNotAllowed(t, err, "an insert into a new month")
	}
}

// A role whose grant runs while a month is being made can read that month: one of them waits for the other.
func grantedMonthRace(t *testing.T, server *roleServer) {
	owner, _, _ := server.newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	server.exec(t, `CREATE ROLE latecomer`)
	maker, err := owner.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = maker.Exec(ctx, owner.sql(`SELECT {{schema}}.ensure_month((now() + interval '3 months')::date)`))
	require.NoError(t, err)
	granted := make(chan error, 1)
	go func() { granted <- owner.Grant(ctx, "latecomer", eventstore.Reader) }()
	waits := func() (waits bool) {
		require.NoError(t, server.admin.QueryRow(ctx,
			`SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND NOT l.granted AND a.query LIKE '%latecomer%')`).Scan(&waits))
		return waits
	}
	require.Eventually(t, waits, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, maker.Commit(ctx))
	require.NoError(t, <-granted)
	var readable, total int
	require.NoError(t, owner.Pool.QueryRow(ctx, owner.sql(`
SELECT count(*) FILTER (WHERE has_table_privilege('latecomer', inhrelid, 'SELECT')), count(*) FROM pg_inherits WHERE inhparent = '{{schema}}.events'::regclass`)).
		Scan(&readable, &total))
	require.Equal(t, total, readable)
	require.Equal(t, 3, total)
}

// Granting again takes away what a role had beyond it, and nothing of its own tables.
func grantedAnew(t *testing.T, server *roleServer) {
	owner, _, _ := server.newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	server.exec(t, `CREATE ROLE climber LOGIN PASSWORD 'secret'`)
	owner.exec(t, `GRANT ALL ON ALL TABLES IN SCHEMA {{schema}} TO climber`)
	owner.exec(t, `GRANT ALL ON ALL SEQUENCES IN SCHEMA {{schema}} TO climber`)
	owner.exec(t, `GRANT UPDATE (version) ON {{schema}}.streams TO climber`)
	owner.exec(t, `CREATE TABLE {{schema}}.orders (id int)`)
	owner.exec(t, `GRANT INSERT ON {{schema}}.orders TO climber`)
	climber, err := eventstore.New(server.as(t, "climber"), eventstore.Config{Schema: owner.Schema(), Codec: noteCodec(t)})
	require.NoError(t, err)
	for _, step := range []struct {
		access eventstore.Access
		writes bool
	}{{eventstore.Appender, true}, {eventstore.Appender, true}, {eventstore.Reader, false}, {eventstore.Appender, true}} {
		require.NoError(t, owner.Grant(ctx, "climber", step.access))
		require.Empty(t, findings(t, owner.Store, eventstore.FindingTooManyRights, func(f eventstore.Finding) bool { return f.Role == "climber" }))
		_, err := climber.Append(ctx, "a-1", eventstore.Any, note{"x"})
		if step.writes {
			require.NoError(t, err)
		} else {
			requireNotAllowed(t, err, "an append")
		}
	}
	require.Len(t, eventstoretest.Collect(t, climber.Stream(ctx, "a-1", 0)), 3)
	var insert bool
	require.NoError(t, owner.Pool.QueryRow(ctx, owner.sql(`SELECT has_table_privilege('climber', '{{schema}}.orders', 'INSERT')`)).Scan(&insert))
	require.True(t, insert)
}

func grantedWrongly(t *testing.T, server *roleServer) {
	owner, appender, reader := server.newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	require.ErrorContains(t, owner.Grant(ctx, "log_owner", eventstore.Reader), "owns the log")
	appender.append(t, "a-1", eventstore.NoStream, note{"the owner's rights are as they were"})
	require.ErrorIs(t, appender.Grant(ctx, "appender", eventstore.Appender), eventstore.ErrNotAllowed)
	require.ErrorIs(t, reader.Grant(ctx, "Read only", eventstore.Appender), eventstore.ErrNotAllowed)
	server.exec(t, `CREATE ROLE full_rights LOGIN PASSWORD 'secret'`) // GRANT would only warn it
	for _, objects := range []string{"SCHEMA {{schema}}", "ALL TABLES IN SCHEMA {{schema}}", "ALL SEQUENCES IN SCHEMA {{schema}}", "ALL FUNCTIONS IN SCHEMA {{schema}}"} {
		owner.exec(t, `GRANT ALL ON `+objects+` TO full_rights`)
	}
	full, err := eventstore.New(server.as(t, "full_rights"), eventstore.Config{Schema: owner.Schema()})
	require.NoError(t, err)
	require.ErrorIs(t, full.Grant(ctx, "Read only", eventstore.Appender), eventstore.ErrNotAllowed)
	require.ErrorContains(t, owner.Grant(ctx, "nobody here", eventstore.Reader), "does not exist")
	require.ErrorIs(t, owner.Grant(ctx, "", eventstore.Reader), eventstore.ErrInvalid)
	missing, err := eventstore.New(server.owner, eventstore.Config{Schema: "no_log"})
	require.NoError(t, err)
	require.Error(t, missing.Grant(ctx, "appender", eventstore.Appender))
}

// A grant that fails leaves a caller's transaction usable, and one that works leaves it its lock_timeout.
func grantedInTx(t *testing.T, server *roleServer) {
	owner, _, reader := server.newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	require.NoError(t, pgx.BeginFunc(ctx, server.owner, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '1234ms'`)
		require.NoError(t, err)
		require.Error(t, owner.WithTx(tx).Grant(ctx, "nobody here", eventstore.Reader))
		require.NoError(t, owner.WithTx(tx).Grant(ctx, "Read only", eventstore.Appender))
		var timeout string
		require.NoError(t, tx.QueryRow(ctx, `SHOW lock_timeout`).Scan(&timeout))
		require.Equal(t, "1234ms", timeout)
		_, err = reader.Append(ctx, "a-1", eventstore.NoStream, note{"not yet"})
		requireNotAllowed(t, err, "an append before the commit")
		return nil
	}))
	reader.append(t, "a-1", eventstore.NoStream, note{"x"})
}

// Whoever adds a function that is not PUBLIC's says who may call it: an appender, but for those that are the owner's, and
// no reader.
func grantedFunctions(t *testing.T, server *roleServer) {
	owner, _, _ := server.newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	rows, err := owner.Pool.Query(ctx, owner.sql(`
SELECT p.proname::text FROM pg_proc p
 WHERE p.pronamespace = '{{schema}}'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE') IS FALSE
   AND (has_function_privilege('Read only', p.oid, 'EXECUTE') OR NOT has_function_privilege('appender', p.oid, 'EXECUTE'))`))
	require.NoError(t, err)
	wrong, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"append_at", "attach_leaf", "key_leaf", "make_leaf", "make_month", "move_positions"}, wrong, "what only append_many and an import need")
}

// In a database that takes EXECUTE on functions away from PUBLIC, as hardening guides advise, both still work.
func grantedWithoutPublic(t *testing.T, server *roleServer) {
	owner, appender, reader := server.newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	owner.exec(t, `REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA {{schema}} FROM PUBLIC`)
	appender.append(t, "a-1", eventstore.NoStream, note{"x"})
	require.NoError(t, pgx.BeginFunc(ctx, server.appender, func(tx pgx.Tx) error {
		_, err := appender.WithTx(tx).Append(ctx, "a-1", eventstore.Any, note{"y"}, note{"z"})
		return err
	}))
	_, err := appender.Settle(ctx)
	require.NoError(t, err)
	again := eventstore.Event{ID: uuid.Must(uuid.NewV7()), Data: note{"once"}}
	first := appender.append(t, "b-1", eventstore.Any, again)
	require.Equal(t, first.Positions, appender.append(t, "b-1", eventstore.Any, again).Positions, "a repeated append asks for its first answer")
	for _, log := range []testLog{appender, reader} {
		require.NoError(t, log.CheckSchema(ctx))
		require.Len(t, eventstoretest.Collect(t, log.All(ctx, 0, eventstore.Filter{})), 4)
		found, err := log.Doctor(ctx)
		require.NoError(t, err)
		require.Empty(t, found)
	}
}

func TestGrantsRefusesNamesThatNeedEscapes(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"", "public", "none", `a"b`, "a'b", `a\b`, "a$grants$b", "a\x00b", "a\nb", "\xff", strings.Repeat("x", 64)} {
		_, err := eventstore.Grants("", role, eventstore.Reader)
		require.ErrorIs(t, err, eventstore.ErrInvalid, "%q", role)
	}
	_, err := eventstore.Grants(`a"b`, "app", eventstore.Reader)
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	_, err = eventstore.Grants("", "app", eventstore.Access(2))
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	sql, err := eventstore.Grants("", "Żółw {{schema}}", eventstore.Appender)
	require.NoError(t, err)
	require.Contains(t, sql, `TO "Żółw {{schema}}"`)
	require.Contains(t, sql, `GRANT USAGE ON SCHEMA "hindsight"`)
}

// findings are those of a kind that the store's Doctor has, and that pass the filters.
func findings(t testing.TB, store *eventstore.Store, kind eventstore.FindingKind, filters ...func(eventstore.Finding) bool) []eventstore.Finding {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all, err := store.Doctor(ctx)
	require.NoError(t, err)
	var chosen []eventstore.Finding
	for _, f := range all {
		pass := f.Kind == kind
		for _, filter := range filters {
			pass = pass && filter(f)
		}
		if pass {
			chosen = append(chosen, f)
		}
	}
	return chosen
}
