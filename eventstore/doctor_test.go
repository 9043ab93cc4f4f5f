package eventstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// Two transactions hold readers back. Each is named with its session and query, the one that holds most first; the remedy
// ends it.
func TestDoctorNamesWhoHoldsReadersBack(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	log.append(t, "a-1", eventstore.NoStream, note{"1"})
	importer, backfill := application(t, log.Pool, "importer", ""), application(t, log.Pool, "backfill", "")
	importerPID, _ := holdBack(t, log, importer, "a-2")
	log.append(t, "a-1", eventstore.AtVersion(1), note{"3"})
	backfillPID, release := holdBack(t, log, backfill, "a-3")
	defer release()
	log.append(t, "a-1", eventstore.AtVersion(2), note{"5"})
	var found []eventstore.Finding
	require.Eventually(t, func() bool {
		found = findings(t, log.Store, eventstore.FindingSlowAppender)
		return len(found) == 2
	}, 20*time.Second, 50*time.Millisecond)
	var role string
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT current_user`).Scan(&role))
	for i, want := range []eventstore.Finding{
		{Application: "importer", PID: importerPID, Position: 1, Held: 4},
		{Application: "backfill", PID: backfillPID, Position: 3, Held: 2},
	} {
		f := found[i]
		require.Equal(t, want.Application, f.Application)
		require.Equal(t, want.PID, f.PID)
		require.Equal(t, want.Position, f.Position)
		require.Equal(t, want.Held, f.Held)
		require.Equal(t, role, f.Role)
		require.Equal(t, "idle in transaction", f.State)
		require.Contains(t, f.Query, ".append")
		require.GreaterOrEqual(t, f.Age, time.Second)
		require.Equal(t, slog.LevelWarn, f.Severity)
		for _, text := range []string{fmt.Sprint("Session ", f.PID), want.Application, "idle in transaction", fmt.Sprint("position ", want.Position)} {
			require.Contains(t, f.Text, text)
		}
	}
	settled, err := log.Settled(t.Context())
	require.NoError(t, err)
	require.Equal(t, found[0].Position, settled, "where readers are held is where they stand")

	log.exec(t, found[0].Remedy)
	require.Eventually(t, func() bool {
		found = findings(t, log.Store, eventstore.FindingSlowAppender)
		return len(found) == 1
	}, 20*time.Second, 50*time.Millisecond)
	require.Equal(t, "backfill", found[0].Application)
}

func TestDoctorFindsMissingMonths(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	require.Empty(t, findings(t, log.Store, eventstore.FindingMonthMissing))
	now := time.Now().UTC()
	current := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	for _, month := range []time.Time{current, current.AddDate(0, 1, 0)} {
		log.exec(t, dropMonth(month))
		found := findings(t, log.Store, eventstore.FindingMonthMissing)
		require.Len(t, found, 1)
		require.Equal(t, month, found[0].Month)
		log.exec(t, found[0].Remedy)
		require.Empty(t, findings(t, log.Store, eventstore.FindingMonthMissing))
	}
	log.exec(t, `UPDATE {{schema}}.months SET state = 'sealed', revision = revision + 1`)
	found := findings(t, log.Store, eventstore.FindingMonthClosed)
	require.Len(t, found, 1)
	require.Equal(t, current, found[0].Month)
}

// The registry says what readers read: where it and the partitions part ways, events are out of sight.
func TestDoctorComparesRegistryAndPartitions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ change, text string }{
		"registered, not attached": {`ALTER TABLE {{schema}}.events DETACH PARTITION {{schema}}.{{leaf}}`, "no partition {{leaf}} is attached"},
		"registered, dropped":      {`DROP TABLE {{schema}}.{{leaf}}`, "no partition {{leaf}} is attached"},
		"attached, not registered": {`DELETE FROM {{schema}}.months WHERE month = '{{month}}'`, "Partition {{leaf}} has no row"},
		"attached, but as dropped": {`UPDATE {{schema}}.months SET state = 'dropped' WHERE month = '{{month}}'`, "is dropped by the registry, but partition {{leaf}} is attached"},
		"still attached":           {`UPDATE {{schema}}.months SET state = 'detached' WHERE month = '{{month}}'`, "partition {{leaf}} is still attached: its readers go to the archive"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newLog(t, eventstore.Config{})
			require.Empty(t, findings(t, log.Store, eventstore.FindingMonthMismatch))
			month := time.Now().UTC()
			fill := strings.NewReplacer("{{leaf}}", "events_"+month.Format("2006_01"), "{{month}}", month.Format("2006-01")+"-01")
			log.exec(t, fill.Replace(c.change))
			found := findings(t, log.Store, eventstore.FindingMonthMismatch)
			require.Len(t, found, 1)
			require.Contains(t, found[0].Text, fill.Replace(c.text))
		})
	}
	log := newLog(t, eventstore.Config{})
	month := time.Now().UTC().Format("2006_01")
	log.exec(t, `ALTER TABLE {{schema}}.events DETACH PARTITION {{schema}}.events_`+month)
	log.exec(t, `UPDATE {{schema}}.months SET state = 'detached' WHERE month = date_trunc('month', now() AT TIME ZONE 'UTC')`)
	require.Empty(t, findings(t, log.Store, eventstore.FindingMonthMismatch), "as it should be after a detach")
}

// Guarantees 1 and 6 hang on triggers and constraints that the owner can take away: each that is missing or disabled is
// found, and back after the remedy.
func TestDoctorFindsUnguardedTables(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	leaf := "events_" + time.Now().UTC().Format("2006_01")
	for _, c := range []struct {
		change, text string
		objects      int
	}{
		{`ALTER TABLE {{schema}}.{{leaf}} DISABLE TRIGGER append_only_truncate`, "TRUNCATE is not refused on", 1},
		{`DROP TRIGGER append_only_truncate ON {{schema}}.{{leaf}}`, "TRUNCATE is not refused on", 1},
		{`DROP TRIGGER append_only_truncate ON {{schema}}.events`, "TRUNCATE is not refused on", 1},
		{`ALTER TABLE {{schema}}.{{leaf}} DISABLE TRIGGER append_only`, "UPDATE and DELETE of events are not refused on", 1},
		{`ALTER TABLE {{schema}}.{{leaf}} ENABLE REPLICA TRIGGER append_only`, "UPDATE and DELETE of events are not refused on", 1},
		{`ALTER TABLE {{schema}}.events DISABLE TRIGGER append_only`, "UPDATE and DELETE of events are not refused on", 3},
		{`ALTER TABLE {{schema}}.{{leaf}} DROP CONSTRAINT {{leaf}}_version_key`, "A unique constraint is missing", 1},
		{`ALTER TABLE {{schema}}.{{leaf}} DROP CONSTRAINT {{leaf}}_position_key`, "A unique constraint is missing", 1},
		{`ALTER TABLE {{schema}}.{{leaf}} DROP CONSTRAINT {{leaf}}_event_id_key`, "A unique constraint is missing", 1},
	} {
		require.Empty(t, findings(t, log.Store, eventstore.FindingUnguarded), "before %s", c.change)
		log.exec(t, strings.ReplaceAll(c.change, "{{leaf}}", leaf))
		found := findings(t, log.Store, eventstore.FindingUnguarded)
		require.Len(t, found, 1, c.change)
		require.Len(t, found[0].Objects, c.objects, c.change)
		require.Contains(t, found[0].Text, c.text)
		log.exec(t, found[0].Remedy)
	}
	require.Empty(t, findings(t, log.Store, eventstore.FindingUnguarded))
	log.exec(t, `DROP TRIGGER append_only ON {{schema}}.events`)
	found := findings(t, log.Store, eventstore.FindingUnguarded)
	require.Len(t, found, 1)
	require.Len(t, found[0].Objects, 3, "the parent and two months")
}

func TestDoctorFindsJumpedClocks(t *testing.T) {
	t.Parallel()
	clocks := func(log testLog) []eventstore.Finding { return findings(t, log.Store, eventstore.FindingClockJumped) }
	now := time.Now().UTC()
	log := newLog(t, eventstore.Config{Clock: func() time.Time { return now }, MaxClockSkew: time.Hour})
	log.append(t, "a-1", eventstore.NoStream, note{"1"})
	now = now.Add(50 * time.Minute)
	log.append(t, "a-2", eventstore.NoStream, note{"2"})
	now = now.Add(-50 * time.Minute)
	log.append(t, "a-3", eventstore.NoStream, note{"3"})
	require.Empty(t, clocks(log), "within the skew")

	now = now.Add(2 * time.Hour)
	ahead := log.append(t, "a-4", eventstore.NoStream, note{"4"})
	now = now.Add(-2 * time.Hour)
	found := clocks(log)
	require.Len(t, found, 1)
	require.Equal(t, ahead.Position(), found[0].Position)
	require.InDelta(t, 2*time.Hour, found[0].Clock, float64(10*time.Minute))
	require.Contains(t, found[0].Text, "ahead of the database's clock")

	back := log.append(t, "a-5", eventstore.NoStream, note{"5"})
	found = clocks(log)
	require.Len(t, found, 2)
	require.Equal(t, back.Position(), found[1].Position)
	require.Equal(t, -2*time.Hour, found[1].Clock)
	require.Contains(t, found[1].Text, "falls by 2h0m0s")

	log.exec(t, `SELECT {{schema}}.ensure_month('2099-01-15')`)
	found = clocks(log)
	require.Len(t, found, 3)
	require.Contains(t, found[0].Text, "2099-01")
}

func TestDoctorComparesTheProgramsClock(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{-2 * time.Hour, 2 * time.Hour} {
		log := newLog(t, eventstore.Config{Clock: func() time.Time { return time.Now().Add(off) }})
		found := findings(t, log.Store, eventstore.FindingClockJumped)
		require.Len(t, found, 1)
		require.InDelta(t, off, found[0].Clock, float64(10*time.Minute))
		require.Contains(t, found[0].Text, "This program's clock is")
	}
}

func TestDoctorFindsUnsafeSettings(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	log.append(t, "a-1", eventstore.NoStream, note{"1"}, note{"2"}, note{"3"})
	one := func(store *eventstore.Store, kind eventstore.FindingKind, text string) eventstore.Finding {
		t.Helper()
		found := findings(t, store, kind, func(f eventstore.Finding) bool { return strings.Contains(f.Text, text) })
		require.Len(t, found, 1, "%s: %s", kind, text)
		return found[0]
	}
	require.Empty(t, findings(t, log.Store, eventstore.FindingSequenceUnsafe))
	log.exec(t, `ALTER SEQUENCE {{schema}}.events_position_seq CACHE 50`)
	log.exec(t, one(log.Store, eventstore.FindingSequenceUnsafe, "CACHE 50").Remedy)
	log.exec(t, `SELECT setval('{{schema}}.events_position_seq', 1)`)
	behind := one(log.Store, eventstore.FindingSequenceUnsafe, "behind the last event")
	require.EqualValues(t, 3, behind.Position)
	log.exec(t, behind.Remedy)
	require.Empty(t, findings(t, log.Store, eventstore.FindingSequenceUnsafe))

	require.Empty(t, findings(t, log.Store, eventstore.FindingTestClock))
	log.exec(t, `INSERT INTO {{schema}}.settings VALUES ('test_clock', 'on')`)
	log.exec(t, one(log.Store, eventstore.FindingTestClock, "test_clock").Remedy)
	require.Empty(t, findings(t, log.Store, eventstore.FindingTestClock))

	session := func(url, name, value string) *eventstore.Store {
		pool := eventstoretest.Pool(t, url, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams[name] = value })
		store, err := eventstore.New(pool, eventstore.Config{Schema: log.Schema()})
		require.NoError(t, err)
		return store
	}
	// Direct: PgBouncer refuses a session that sets synchronous_commit; a DateStyle it hands on.
	one(session(directURL(t), "synchronous_commit", "off"), eventstore.FindingNotDurable, "synchronous_commit off")
	require.Empty(t, findings(t, log.Store, eventstore.FindingBadDateStyle))
	one(session(log.Pool.Config().ConnString(), "datestyle", "German"), eventstore.FindingBadDateStyle, "German")
	var fsync string
	require.NoError(t, log.Pool.QueryRow(ctx, `SHOW fsync`).Scan(&fsync))
	require.Equal(t, fsync == "off", len(findings(t, log.Store, eventstore.FindingNotDurable)) == 1, "the tests' own server runs without")
}

// Appends between one look and the next are no finding.
func TestDoctorOfABusyLog(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx, stop := context.WithCancel(testContext(t, time.Minute))
	var writers errgroup.Group
	for w := range 4 {
		writers.Go(func() error {
			for ctx.Err() == nil {
				if _, err := log.Append(context.WithoutCancel(ctx), eventstore.StreamID(fmt.Sprint("a-", w)), eventstore.Any, note{"x"}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for range 30 {
		found := diagnose(t, log.Store)
		for _, kind := range []eventstore.FindingKind{eventstore.FindingSequenceUnsafe, eventstore.FindingClockJumped, eventstore.FindingMonthMismatch, eventstore.FindingUnseen} {
			require.False(t, slices.ContainsFunc(found, func(f eventstore.Finding) bool { return f.Kind == kind }), "%+v", found)
		}
	}
	stop()
	require.NoError(t, writers.Wait())
	head, err := log.Head(t.Context(), "a-0")
	require.NoError(t, err)
	require.Positive(t, head.Version)
}

func TestDoctorTellsOlderFromNewer(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	wrong := func(store *eventstore.Store) string {
		found := diagnose(t, store)
		require.Len(t, found, 1)
		require.Equal(t, eventstore.FindingWrongSchema, found[0].Kind)
		return found[0].Text
	}
	missing, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema() + "_none"})
	require.NoError(t, err)
	require.Contains(t, wrong(missing), "has no event log")
	log.exec(t, `INSERT INTO {{schema}}.migrations (line, version, name) VALUES ('eventstore', 99, 'from the future')`)
	require.Contains(t, wrong(log.Store), "newer than this program")
	log.exec(t, `DELETE FROM {{schema}}.migrations WHERE version > 1`)
	require.Contains(t, wrong(log.Store), "older than this program")
	unreachable, err := eventstore.New(nil, eventstore.Config{})
	require.NoError(t, err)
	_, err = unreachable.Doctor(t.Context())
	require.ErrorIs(t, err, eventstore.ErrNoPool)
}

// A lock that keeps readers out of the events does not keep Doctor from telling the rest.
func TestDoctorDoesNotWaitForLocks(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"events", "events_" + time.Now().UTC().Format("2006_01")} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			log := newLog(t, eventstore.Config{})
			ctx := testContext(t, time.Minute)
			log.exec(t, `ALTER SEQUENCE {{schema}}.events_position_seq CACHE 1`)
			log.exec(t, `INSERT INTO {{schema}}.settings VALUES ('test_clock', 'on')`)
			tx, err := log.Pool.Begin(ctx)
			require.NoError(t, err)
			defer func() { require.NoError(t, tx.Rollback(ctx)) }()
			_, err = tx.Exec(ctx, log.sql(`LOCK TABLE ONLY {{schema}}.`+table+` IN ACCESS EXCLUSIVE MODE`))
			require.NoError(t, err)
			kinds := map[eventstore.FindingKind]int{}
			for _, f := range diagnose(t, log.Store) {
				kinds[f.Kind]++
			}
			require.Equal(t, 1, kinds[eventstore.FindingUnseen])
			require.Equal(t, 1, kinds[eventstore.FindingTestClock])
		})
	}
}

// session is a program of its own: a connection with an application_name.
type session struct{ *pgx.Conn }

func application(t *testing.T, pool *pgxpool.Pool, name, role string) session {
	t.Helper()
	config := pool.Config().ConnConfig.Copy()
	config.RuntimeParams["application_name"] = name
	if role != "" {
		config.User, config.Password = role, "secret"
	}
	conn, err := pgx.ConnectConfig(testContext(t, time.Minute), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return session{conn}
}

// holdBack appends in a transaction of the session that it leaves open; the function returned rolls it back. The server's
// process is the transaction's: behind a pooler the session has none of its own.
func holdBack(t *testing.T, log testLog, s session, id eventstore.StreamID) (pid int, release func()) {
	t.Helper()
	ctx := testContext(t, time.Minute)
	tx, err := s.Begin(ctx)
	require.NoError(t, err)
	require.NoError(t, tx.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid))
	_, err = log.WithTx(tx).Append(ctx, id, eventstore.NoStream, note{"slow"})
	require.NoError(t, err)
	return pid, func() { require.NoError(t, tx.Rollback(ctx)) }
}

// dropMonth is how a month's partition and its registry row vanish.
func dropMonth(month time.Time) string {
	month = month.UTC()
	return `DROP TABLE {{schema}}.events_` + month.Format("2006_01") + `; DELETE FROM {{schema}}.months WHERE month = '` + month.Format("2006-01") + `-01'`
}

// diagnose is all that the store's Doctor finds.
func diagnose(t testing.TB, store *eventstore.Store) []eventstore.Finding {
	t.Helper()
	found, err := store.Doctor(testContext(t, time.Minute))
	require.NoError(t, err)
	for _, f := range found {
		require.NotEmpty(t, f.Text)
	}
	return found
}
