package projection_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/projection"
)

// edition writes texts and their lengths. Each version has other columns, and a table that no other has.
type edition struct {
	version int
	fails   func(eventstore.Recorded) error
}

func (p edition) Spec() projection.Spec {
	columns := map[int]string{1: `position bigint, text text, old text`, 2: `text text, position bigint, length integer`, 3: `x int`}[p.version]
	return projection.Spec{Name: "edition", Version: p.version, Tables: []projection.Table{
		{Name: "edition_texts", SQL: `CREATE TABLE {{table}} (` + columns + `);
COMMENT ON TABLE {{table}} IS 'Texts''s table.'; ` + fmt.Sprintf(`COMMENT ON COLUMN {{table}}.%s IS 'Of version %d.'`, map[int]string{1: "text", 2: "text", 3: "x"}[p.version], p.version)},
		{Name: "edition_count", SQL: `CREATE TABLE {{table}} (position bigint)`},
		{Name: fmt.Sprintf("edition_only%d", p.version), SQL: `CREATE TABLE {{table}} (x int)`},
	}}
}

func (p edition) Apply(ctx context.Context, tx pgx.Tx, batch *projection.Batch) error {
	for _, e := range batch.Events {
		if p.fails != nil {
			if err := p.fails(e); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `INSERT INTO `+batch.Table("edition_texts")+` (position, text) VALUES ($1, $2)`, int64(e.Position), e.Data.(note).Text); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO `+batch.Table("edition_count")+` VALUES ($1)`, int64(e.Position)); err != nil {
			return err
		}
	}
	return nil
}

// described is what anybody sees of a view: the table it shows, its comments, and who may read it.
type described struct {
	Shows            string
	Comment, OfText  *string
	Rights, OfColumn *string
}

func describe(t testing.TB, log *eventstoretest.Log, view string) (d described) {
	t.Helper()
	require.NoError(t, log.Pool.QueryRow(t.Context(), `
SELECT (SELECT DISTINCT t.relname FROM pg_rewrite w JOIN pg_depend d ON d.objid = w.oid AND d.refobjid <> w.ev_class JOIN pg_class t ON t.oid = d.refobjid WHERE w.ev_class = c.oid),
       obj_description(c.oid, 'pg_class'),
       (SELECT col_description(c.oid, attnum) FROM pg_attribute WHERE attrelid = c.oid AND attname = 'text'),
       (SELECT string_agg(format('%s %s %s', CASE WHEN grantee = 0 THEN 'public' ELSE grantee::regrole::text END, privilege_type, is_grantable), ', ' ORDER BY 1, grantee)
          FROM aclexplode(c.relacl) WHERE grantee <> c.relowner),
       (SELECT string_agg(format('%s %s %s', a.attname, grantee::regrole, privilege_type), ', ' ORDER BY 1) FROM pg_attribute a, aclexplode(a.attacl) WHERE a.attrelid = c.oid)
  FROM pg_class c WHERE c.oid = ($1 || '.' || $2)::regclass`, log.Schema(), view).Scan(&d.Shows, &d.Comment, &d.OfText, &d.Rights, &d.OfColumn))
	return d
}

func ofEdition(t testing.TB, log *eventstoretest.Log, version int, fails func(eventstore.Recorded) error) *projection.Runner {
	t.Helper()
	runner := newRunner(t, log, quick(edition{version, fails}))
	require.NoError(t, runner.Migrate(testContext(t, time.Minute)))
	return runner
}

// A version that is built beside the one that serves takes its place at once, when it has come as far, with the rights and the
// comments; and the old one takes it back.
func TestServe(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, 2*time.Minute)
	require.ErrorIs(t, newRunner(t, log, quick(edition{version: 1})).Serve(ctx, "edition"), projection.ErrNotMigrated)
	old := ofEdition(t, log, 1, nil)
	require.ErrorIs(t, old.Serve(ctx, "nobody"), projection.ErrUnknown)
	require.ErrorIs(t, newRunner(t, log, quick(edition{version: 3})).Serve(ctx, "edition"), projection.ErrNotMigrated)
	stop := running(t, old)
	last := appendTo(t, log, "a-1", "one", "two").Position()
	waitFor(t, old, "edition", last)
	require.Equal(t, "Of version 1.", *describe(t, log, "edition_texts").OfText, "a view tells what its table tells")
	for _, sql := range []string{
		`GRANT SELECT ON %s.edition_texts TO PUBLIC`, `GRANT SELECT, UPDATE ON %s.edition_texts TO pg_monitor WITH GRANT OPTION`,
		`GRANT INSERT (text, old) ON %s.edition_texts TO pg_monitor`, `COMMENT ON VIEW %s.edition_count IS 'Mine.'`,
	} {
		_, err := log.Pool.Exec(ctx, fmt.Sprintf(sql, log.Schema()))
		require.NoError(t, err)
	}
	before := describe(t, log, "edition_texts")

	newer := ofEdition(t, log, 2, nil)
	err := newer.Serve(ctx, "edition")
	require.ErrorIs(t, err, projection.ErrBehind)
	var behind *projection.BehindError
	require.ErrorAs(t, err, &behind)
	require.Equal(t, projection.BehindError{Name: "edition", Version: 2, Serving: 1, ServingPosition: last}, *behind)
	require.Equal(t, before, describe(t, log, "edition_texts"))
	running(t, newer)
	waitFor(t, newer, "edition", last)
	require.Equal(t, "edition_texts_v1", describe(t, log, "edition_texts").Shows, "nothing shows it yet")
	require.NoError(t, newer.Serve(ctx, "edition"))
	require.NoError(t, newer.Serve(ctx, "edition"), "once more")

	after := describe(t, log, "edition_texts")
	require.Equal(t, before.Rights, after.Rights)
	require.Contains(t, *after.Rights, "pg_monitor UPDATE t")
	require.Equal(t, "text pg_monitor INSERT", *after.OfColumn, "the other column is no more")
	require.Equal(t, "edition_texts_v2", after.Shows)
	require.Equal(t, "Texts's table.", *after.Comment)
	require.Equal(t, "Of version 2.", *after.OfText)
	count := describe(t, log, "edition_count")
	require.Equal(t, "edition_count_v2", count.Shows)
	require.Equal(t, "Mine.", *count.Comment, "what a table does not tell")
	require.Equal(t, "edition_only1_v1", describe(t, log, "edition_only1").Shows, "of a table that is no more")
	var texts int
	require.NoError(t, log.Pool.QueryRow(ctx, `SELECT count(length) + count(*) FROM `+log.Schema()+`.edition_texts`).Scan(&texts))
	require.Equal(t, 2, texts)

	stop() // what one goes back to need not have come as far
	waitFor(t, newer, "edition", appendTo(t, log, "a-1", "three").Position())
	require.NoError(t, old.Serve(ctx, "edition"))
	back := describe(t, log, "edition_texts")
	require.Equal(t, "edition_texts_v1", back.Shows)
	require.Equal(t, before.Rights, back.Rights)
	require.Equal(t, "Of version 1.", *back.OfText)
	require.Equal(t, "edition_count_v1", describe(t, log, "edition_count").Shows)
}

// What a version has parked and the serving one has not is missing from it.
func TestServeLooksAtWhatIsParked(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	poison := failing{text: "poison"}
	both := func(e eventstore.Recorded) error {
		if e.Data.(note).Text == "both" {
			return errors.New("in each version")
		}
		return nil
	}
	old := ofEdition(t, log, 1, both)
	newer := ofEdition(t, log, 2, func(e eventstore.Recorded) error { return errors.Join(both(e), poison.check(e)) })
	running(t, old)
	running(t, newer)
	appendTo(t, log, "a-1", "poison", "behind it")
	last := appendTo(t, log, "b-1", "both").Position()
	waitFor(t, old, "edition", last)
	waitFor(t, newer, "edition", last)
	err := newer.Serve(ctx, "edition")
	var behind *projection.BehindError
	require.ErrorAs(t, err, &behind)
	require.Equal(t, 1, behind.ParkedKeys)
	require.Equal(t, "edition_texts_v1", describe(t, log, "edition_texts").Shows)
	poison.off.Store(true)
	require.NoError(t, newer.Retry(ctx, "edition", "a-1"))
	require.Eventually(t, func() bool { return newer.Serve(ctx, "edition") == nil }, 20*time.Second, 20*time.Millisecond)
	require.Equal(t, "edition_texts_v2", describe(t, log, "edition_texts").Shows)
}

// A reader in the way is waited for, without holding up others for long, and no view changes before all can.
func TestServeWaitsForReaders(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	old, newer := ofEdition(t, log, 1, nil), ofEdition(t, log, 2, nil)
	_, err := log.Pool.Exec(ctx, fmt.Sprintf(`CREATE VIEW %[1]s.reports AS SELECT text FROM %[1]s.edition_texts`, log.Schema()))
	require.NoError(t, err)
	require.ErrorContains(t, newer.Serve(ctx, "edition"), "2BP01", "somebody's view is not dropped with it")
	_, err = log.Pool.Exec(ctx, `DROP VIEW `+log.Schema()+`.reports`)
	require.NoError(t, err)

	reader, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = reader.Exec(ctx, `SELECT FROM `+log.Schema()+`.edition_count`) // the second view
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- newer.Serve(ctx, "edition") }()
	waits := func() (n int) {
		require.NoError(t, log.Pool.QueryRow(ctx, `SELECT count(*) FROM pg_locks WHERE relation = ($1 || '.edition_count')::regclass AND NOT granted`, log.Schema()).Scan(&n))
		return n
	}
	for range 2 { // it tries, gives up, and tries again
		require.Eventually(t, func() bool { return waits() == 1 }, 20*time.Second, time.Millisecond)
		require.Eventually(t, func() bool { return waits() == 0 }, 20*time.Second, time.Millisecond)
	}
	require.Equal(t, "edition_texts_v1", describe(t, log, "edition_texts").Shows)
	require.NoError(t, reader.Commit(ctx))
	require.NoError(t, <-served)
	require.Equal(t, "edition_texts_v2", describe(t, log, "edition_texts").Shows)
	require.Equal(t, "edition_count_v2", describe(t, log, "edition_count").Shows)

	reader, err = log.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = reader.Exec(ctx, `SELECT FROM `+log.Schema()+`.edition_count`)
	require.NoError(t, err)
	short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	require.ErrorIs(t, old.Serve(short, "edition"), context.DeadlineExceeded)
	require.NoError(t, reader.Rollback(ctx))
}
