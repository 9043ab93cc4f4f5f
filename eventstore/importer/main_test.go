package importer_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/importer"
)

// childVariable makes this test binary a program that imports a table, for tests that kill it.
const childVariable = "HINDSIGHT_IMPORT_CHILD"

func TestMain(m *testing.M) {
	if schema, url, ok := strings.Cut(os.Getenv(childVariable), " "); ok {
		if err := child(schema, url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child prints a line after each commit.
func child(schema, url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	store, err := eventstore.New(pool, eventstore.Config{Schema: schema})
	if err != nil {
		return err
	}
	config := sessions(schema)
	config.Progress = func(r importer.TableReport) { fmt.Println(r.Total.Events) }
	_, err = importer.FromTable(ctx, store, pool, config)
	return err
}

// sessions imports the table that these tests make.
func sessions(schema string) importer.TableConfig {
	return importer.TableConfig{Name: "sessions", Schema: schema, StreamColumn: "session_id", Category: "session", ProjectColumn: "project"}
}

// source is a log with a table beside it, in the same schema.
type source struct{ *eventstoretest.Log }

func newSource(t *testing.T, columns string) source {
	t.Helper()
	s := source{eventstoretest.New(t, eventstore.Config{})}
	s.exec(t, `CREATE TABLE {{schema}}.memory_events (`+columns+`)`)
	return s
}

const memoryEvents = `id uuid PRIMARY KEY, event_type text, event_data jsonb, created_at timestamptz, session_id bigint, project text`

// fill adds rows: session i%sessions, four of them at each instant, over some months of 2024.
func (s source) fill(t *testing.T, rows, sessions int) {
	t.Helper()
	s.exec(t, fmt.Sprintf(`
INSERT INTO {{schema}}.memory_events
SELECT md5('row ' || i)::uuid, CASE i %% 3 WHEN 0 THEN 'response' ELSE 'followup' END,
       jsonb_build_object('n', i, 'text', repeat('word ', 5 + i %% 40)),
       timestamptz '2024-01-25 00:00:00.000001+00' + i / 4 * interval '150 days' / %[1]d * 4, i / 4 %% %[2]d, 'p' || i / 4 %% %[2]d %% 5
  FROM generate_series(1, %[1]d) AS i`, rows, sessions))
}

func (s source) sql(sql string) string { return strings.ReplaceAll(sql, "{{schema}}", s.Schema()) }

func (s source) exec(t *testing.T, sql string) {
	t.Helper()
	_, err := s.Pool.Exec(testContext(t), s.sql(sql))
	require.NoError(t, err)
}

func (s source) count(t *testing.T, sql string) (n int) {
	t.Helper()
	require.NoError(t, s.Pool.QueryRow(testContext(t), s.sql(sql)).Scan(&n))
	return n
}

// requireSame compares table and log in the database: the same events, kept exactly, in the order of (created_at, id).
func (s source) requireSame(t *testing.T) {
	t.Helper()
	require.Zero(t, s.count(t, `
SELECT count(*)
  FROM (SELECT *, row_number() OVER (PARTITION BY session_id ORDER BY created_at, id) AS version,
               row_number() OVER (ORDER BY created_at, id) AS n FROM {{schema}}.memory_events) AS r
  FULL JOIN (SELECT *, row_number() OVER (ORDER BY position) AS n FROM {{schema}}.events) AS e ON e.event_id = r.id
 WHERE r.id IS NULL OR e.event_id IS NULL OR e.recorded_at <> r.created_at OR e.occurred_at <> r.created_at
    OR e.event_type <> r.event_type OR e.event_data::text <> r.event_data::text OR e.stream_id <> 'session-' || r.session_id
    OR e.version <> r.version OR e.n <> r.n`))
	require.Zero(t, s.count(t, `
SELECT count(*)
  FROM (SELECT 'session-' || session_id AS stream_id, count(*), min(created_at), max(created_at), min(project) AS project
          FROM {{schema}}.memory_events GROUP BY 1) AS r
  FULL JOIN {{schema}}.streams s ON s.stream_id = r.stream_id COLLATE "C"
 WHERE (s.version, s.first_recorded_at, s.last_recorded_at, s.project_id) IS DISTINCT FROM (r.count, r.min, r.max, r.project)`))
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
