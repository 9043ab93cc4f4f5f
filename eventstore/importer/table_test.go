package importer_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/eventstore/importer"
)

const tableRows = 100_000

func TestTableOfAHundredThousandRows(t *testing.T) {
	t.Parallel()
	s := newSource(t, memoryEvents)
	s.fill(t, tableRows, 1000)
	config := sessions(s.Schema())
	var seen []importer.TableReport
	config.Progress = func(r importer.TableReport) { seen = append(seen, r) }
	report, err := importer.FromTable(testContext(t), s.Store, s.Pool, config)
	require.NoError(t, err)
	require.EqualValues(t, tableRows, report.Events)
	require.EqualValues(t, tableRows, report.Rows)
	require.Len(t, seen, 20, "after each 5,000 rows")
	for i, r := range seen {
		require.EqualValues(t, 5000*(i+1), r.Events)
		require.EqualValues(t, tableRows, r.Rows)
		require.NotEmpty(t, r.Bookmark)
	}
	s.requireSame(t)

	again, err := importer.FromTable(testContext(t), s.Store, s.Pool, config)
	require.NoError(t, err)
	require.Zero(t, again.Events)
	require.Equal(t, report.Total, again.Total)
	require.Equal(t, tableRows, s.count(t, `SELECT count(*) FROM {{schema}}.events`))
	require.Equal(t, 6, s.count(t, `SELECT count(*) FROM {{schema}}.months WHERE month < '2025-01-01'`))
}

// A program that is killed with SIGKILL while it imports repeats nothing and loses nothing, however often.
func TestKilledImportOfAHundredThousandRows(t *testing.T) {
	t.Parallel()
	s := newSource(t, memoryEvents)
	s.fill(t, tableRows, 1000)
	ctx := testContext(t)
	var totals []string
	for round := range 6 {
		program := exec.CommandContext(ctx, os.Args[0])
		program.Env = append(os.Environ(), childVariable+"="+s.Schema()+" "+s.Pool.Config().ConnString())
		out, err := program.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, program.Start())
		lines := bufio.NewScanner(out)
		for range 1 + round%3 { // batches
			require.True(t, lines.Scan(), "the program imports")
			totals = append(totals, lines.Text())
		}
		time.Sleep(time.Duration(round*13) * time.Millisecond) // somewhere in the next batch
		require.NoError(t, program.Process.Kill())
		_, _ = io.Copy(io.Discard, out)
		require.ErrorContains(t, program.Wait(), "killed")
	}
	require.True(t, slices.IsSortedFunc(totals, func(a, b string) int { return len(a) - len(b) }), totals)
	require.Len(t, slices.Compact(slices.Clone(totals)), len(totals), "each run goes on after the one before")
	before := s.count(t, `SELECT count(*) FROM {{schema}}.events`)
	require.Less(t, before, tableRows, "the last run still has something to do")
	report, err := importer.FromTable(ctx, s.Store, s.Pool, sessions(s.Schema()))
	require.NoError(t, err)
	t.Logf("killed 6 times, at %d rows; %d came with the last run", before, report.Events)
	require.EqualValues(t, tableRows, report.Total.Events)
	require.EqualValues(t, tableRows-before, report.Events)
	s.requireSame(t)
}

// Ids of each type, times without a zone, and as many rows at one instant as need several pages.
func TestTableShapes(t *testing.T) {
	t.Parallel()
	for name, columns := range map[string]string{
		"bigint":  `id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, created_at timestamp NOT NULL, event_type varchar(20), event_data json, session_id uuid`,
		"text":    `id text PRIMARY KEY DEFAULT 'row ' || nextval('{{schema}}.n'), created_at timestamptz NOT NULL, event_type text, event_data text, session_id text`,
		"varchar": `id varchar(36) UNIQUE DEFAULT gen_random_uuid()::text, created_at timestamptz(3) NOT NULL, event_type text, event_data json, session_id text`,
		"uuid":    `id uuid DEFAULT gen_random_uuid(), created_at timestamp(0) NOT NULL, event_type text, event_data jsonb, session_id char(36)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := source{eventstoretest.New(t, eventstore.Config{})}
			s.exec(t, `CREATE SEQUENCE {{schema}}.n`)
			s.exec(t, s.sql(`CREATE TABLE {{schema}}.memory_events (`+columns+`)`))
			s.exec(t, `
INSERT INTO {{schema}}.memory_events (created_at, event_type, event_data, session_id)
SELECT '2025-06-30 23:59:59', 'note', '{"text": "ä \\u00e4"}', gen_random_uuid() FROM generate_series(1, 3500)`)
			s.exec(t, `INSERT INTO {{schema}}.memory_events (created_at, event_type, event_data, session_id) VALUES ('2025-07-01', 'note', '{}', gen_random_uuid())`)
			config := importer.TableConfig{Name: name, Schema: s.Schema(), StreamColumn: "session_id", Category: "x", BatchEvents: 999}
			report, err := importer.FromTable(testContext(t), s.Store, s.Pool, config)
			require.NoError(t, err)
			require.EqualValues(t, 3501, report.Events)
			again, err := importer.FromTable(testContext(t), s.Store, s.Pool, config)
			require.NoError(t, err)
			require.Equal(t, report.Total, again.Total)
			require.Zero(t, s.count(t, `
SELECT count(*) FROM (SELECT created_at, event_data, 'x-' || session_id AS stream_id, row_number() OVER (ORDER BY created_at, id) AS n FROM {{schema}}.memory_events) AS r
  FULL JOIN (SELECT *, row_number() OVER (ORDER BY position) AS n FROM {{schema}}.events) AS e USING (n)
 WHERE e.stream_id IS DISTINCT FROM r.stream_id OR e.recorded_at <> r.created_at::timestamp AT TIME ZONE 'UTC' OR e.event_data::text <> r.event_data::text`))
			kept := s.count(t, `SELECT count(*) FROM {{schema}}.events e JOIN {{schema}}.memory_events r ON r.id::text = e.event_id::text`)
			if name == "uuid" || name == "varchar" {
				require.Equal(t, 3501, kept, "a row's own uuid is the event's id")
			} else {
				require.Zero(t, kept)
			}
		})
	}
}

// A row that cannot be an event ends the import and is named; with a reason to skip it the import goes on, and says so.
func TestRowsThatCannotBeEvents(t *testing.T) {
	t.Parallel()
	const columns = `id bigint PRIMARY KEY, event_type text, event_data json, created_at timestamptz, session_id text, project text`
	for name, c := range map[string]struct {
		row, column, reason string
		want                error
	}{
		"NULL data":          {`'note', NULL, now(), '7'`, "event_data", "is NULL", nil},
		"NULL type":          {`NULL, '{}', now(), '7'`, "event_type", "is NULL", nil},
		"NULL stream":        {`'note', '{}', now(), NULL`, "session_id", "no stream", nil},
		"an escaped NUL":     {`'note', '{"text":"\u0000"}', now(), '7'`, "", `\u0000`, eventstore.ErrInvalid},
		"a lone surrogate":   {`'note', '{"text":"\ud800"}', now(), '7'`, "", "surrogate", eventstore.ErrInvalid},
		"a body too large":   {`'note', to_json(repeat('x', 1100000)), now(), '7'`, "", "at most", eventstore.ErrInvalid},
		"a type too long":    {`repeat('x', 101), '{}', now(), '7'`, "", "at most", eventstore.ErrInvalid},
		"a stream of spaces": {`'note', '{}', now(), E'\t'`, "", "control character", eventstore.ErrInvalid},
		"the future":         {`'note', '{}', now() + interval '1 day', '7'`, "", "later than", eventstore.ErrClock},
		"another age":        {`'note', '{}', '1066-10-14', '7'`, "", "recorded_at", eventstore.ErrInvalid},
		"a refusal by Map":   {`'refuse', '{}', now(), '7'`, "", "refused", errRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSource(t, columns)
			s.exec(t, `INSERT INTO {{schema}}.memory_events VALUES (1, 'note', '{}', '1000-01-01', '7', NULL)`)
			s.exec(t, `UPDATE {{schema}}.memory_events SET created_at = '1999-01-01'`)
			s.exec(t, `INSERT INTO {{schema}}.memory_events VALUES (42, `+c.row+`)`)
			config := sessions(s.Schema())
			config.Map = refuse
			config.BatchEvents = 1
			_, err := importer.FromTable(testContext(t), s.Store, s.Pool, config)
			var wrong *importer.RowError
			require.ErrorAs(t, err, &wrong)
			require.Equal(t, "42", wrong.Row)
			require.Equal(t, c.column, wrong.Column)
			require.ErrorContains(t, err, c.reason)
			require.ErrorContains(t, err, "row 42")
			if c.want != nil {
				require.ErrorIs(t, err, c.want)
			}
			if errors.Is(err, eventstore.ErrClock) { // it may yet become an event
				return
			}
			config.Skip = func(e *importer.RowError) string { return "row " + e.Row + " is broken" }
			for range 2 { // and is not taken for a late row
				report, err := importer.FromTable(testContext(t), s.Store, s.Pool, config)
				require.NoError(t, err)
				require.Equal(t, eventstore.ImportCounts{Events: 1, Skipped: 1}, report.Total)
			}
			require.Equal(t, 1, s.count(t, `SELECT count(*) FROM {{schema}}.import_skips WHERE import = 'sessions' AND bookmark LIKE '% 42' AND reason = 'row 42 is broken'`))
		})
	}
}

var errRefused = errors.New("refused")

func refuse(_ importer.Row, event *eventstore.Imported) error {
	if event.Event.Data.(eventstore.Raw).Type == "refuse" {
		return errRefused
	}
	return nil
}

// With a codec, a body must fit its type, and tells the project.
func TestBodiesMustFitTheCodec(t *testing.T) {
	t.Parallel()
	s := newSource(t, memoryEvents)
	store, err := eventstore.New(s.Pool, eventstore.Config{Schema: s.Schema(), Codec: focusgroup.Codec()})
	require.NoError(t, err)
	config := sessions(s.Schema())
	config.ProjectColumn = ""
	s.exec(t, `INSERT INTO {{schema}}.memory_events VALUES (gen_random_uuid(), 'response', '{"text": "yes", "project_id": "p7"}', now(), 1)`)
	_, err = importer.FromTable(testContext(t), store, s.Pool, config)
	require.NoError(t, err)
	head, err := store.Head(testContext(t), "session-1")
	require.NoError(t, err)
	require.Equal(t, "p7", head.Project)

	for body, want := range map[string]error{`'response', '{"text": 7}'`: eventstore.ErrBadBody, `'shout', '{}'`: eventstore.ErrUnknownType} {
		s.exec(t, `DELETE FROM {{schema}}.memory_events WHERE session_id = 2`)
		s.exec(t, `INSERT INTO {{schema}}.memory_events VALUES ('00000000-0000-0000-0000-000000000007', `+body+`, now(), 2)`)
		_, err = importer.FromTable(testContext(t), store, s.Pool, config)
		require.ErrorIs(t, err, want)
		require.ErrorContains(t, err, "row 00000000-0000-0000-0000-000000000007")
	}
}

// Map has all columns, and may change everything but the id.
func TestMapHasTheWholeRow(t *testing.T) {
	t.Parallel()
	s := newSource(t, `id uuid PRIMARY KEY, created_at timestamptz, kind text, who text, score numeric, tags text[], note text`)
	s.exec(t, `INSERT INTO {{schema}}.memory_events VALUES
 ('00000000-0000-0000-0000-000000000001', '2025-01-01', 'rating', 'ann', 4.5, '{a,b}', NULL),
 ('00000000-0000-0000-0000-000000000002', '2025-01-02', 'test', 'bob', 1, '{}', 'x')`)
	config := importer.TableConfig{Name: "mapped", Schema: s.Schema(), Map: func(row importer.Row, event *eventstore.Imported) error {
		kind, _ := row.Text("kind")
		if kind == "test" {
			event.Skip = "a test"
			return nil
		}
		var score float64
		var tags []string
		if err := errors.Join(row.Scan("score", &score), row.Scan("tags", &tags)); err != nil {
			return err
		}
		if _, ok := row.Text("note"); ok || row.Scan("nothing", &score) == nil {
			return errors.New("NULL and missing columns are none")
		}
		who, _ := row.Text("who")
		event.StreamID = eventstore.StreamID("rating-" + who)
		event.Event = eventstore.Event{
			ID: uuid.New(), Project: "p1", Metadata: eventstore.Metadata{Actor: who}, OccurredAt: row.CreatedAt.Add(-time.Hour),
			Data: eventstore.Raw{Type: kind, SchemaVersion: 3, JSON: fmt.Appendf(nil, `{"score":%v,"tags":%d}`, score, len(tags))},
		}
		return nil
	}}
	report, err := importer.FromTable(testContext(t), s.Store, s.Pool, config)
	require.NoError(t, err)
	require.Equal(t, eventstore.ImportCounts{Events: 1, Skipped: 1}, report.ImportCounts)
	events := eventstoretest.Collect(t, s.Stream(testContext(t), "rating-ann", 0))
	require.Len(t, events, 1)
	at := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	require.Equal(t, eventstore.Recorded{
		Position: events[0].Position, StreamID: "rating-ann", Version: 1, ID: uuid.MustParse("00000000-0000-0000-0000-000000000001"), Type: "rating", SchemaVersion: 3,
		OccurredAt: at.Add(-time.Hour), RecordedAt: at, Metadata: eventstore.Metadata{Actor: "ann"}, MetadataJSON: []byte(`{"actor":"ann"}`),
		JSON: []byte(`{"score":4.5,"tags":2}`), Data: eventstore.Raw{Type: "rating", SchemaVersion: 3, JSON: []byte(`{"score":4.5,"tags":2}`)},
	}, events[0])
}

// Rows that were committed behind the bookmark are found, named, and taken if asked for.
func TestLateRows(t *testing.T) {
	t.Parallel()
	s := newSource(t, memoryEvents)
	s.fill(t, 2000, 10)
	config := sessions(s.Schema())
	_, err := importer.FromTable(testContext(t), s.Store, s.Pool, config)
	require.NoError(t, err)
	s.exec(t, `
INSERT INTO {{schema}}.memory_events
SELECT md5('late ' || i)::uuid, 'late', '{}', timestamptz '2024-02-01 12:00+00' + i * interval '1 hour', 3, 'p3' FROM generate_series(1, 250) AS i`)
	s.exec(t, `INSERT INTO {{schema}}.memory_events VALUES (md5('new')::uuid, 'new', '{}', '2024-07-01', 3, 'p3')`)
	report, err := importer.FromTable(testContext(t), s.Store, s.Pool, config)
	require.ErrorIs(t, err, importer.ErrLateRows)
	require.EqualValues(t, 250, report.Late)
	require.Len(t, report.LateRows, 100)
	require.Contains(t, err.Error(), report.LateRows[0])
	require.EqualValues(t, 1, report.Events, "what is new was imported")
	require.Equal(t, 250, s.count(t, `SELECT count(*) FROM {{schema}}.memory_events WHERE event_type = 'late' AND id NOT IN (SELECT event_id FROM {{schema}}.events)`))

	s.exec(t, `UPDATE {{schema}}.memory_events SET event_data = 'null', event_type = NULL WHERE id = '`+report.LateRows[0]+`'`)
	config.TakeLate = true
	_, err = importer.FromTable(testContext(t), s.Store, s.Pool, config)
	var wrong *importer.RowError
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, report.LateRows[0], wrong.Row)
	config.Skip = func(e *importer.RowError) string { return e.Error() }
	bookmark := report.Bookmark
	report, err = importer.FromTable(testContext(t), s.Store, s.Pool, config)
	require.NoError(t, err)
	require.EqualValues(t, 250, report.Late)
	require.Equal(t, eventstore.ImportCounts{Events: 249, Skipped: 1}, report.ImportCounts)
	require.Equal(t, eventstore.ImportCounts{Events: 2250, Skipped: 1}, report.Total)
	require.Equal(t, bookmark, report.Bookmark)
	require.Equal(t, 249, s.count(t, `
SELECT count(*) FROM {{schema}}.events e JOIN {{schema}}.memory_events r ON r.id = e.event_id
 WHERE r.event_type = 'late' AND e.occurred_at = r.created_at AND e.recorded_at > now() - interval '1 hour'`))
	report, err = importer.FromTable(testContext(t), s.Store, s.Pool, config)
	require.NoError(t, err)
	require.Zero(t, report.Late)
}

// Rows whose month has left the log were imported, as far as anybody can tell.
func TestRowsOfMonthsThatAreGone(t *testing.T) {
	t.Parallel()
	s := newSource(t, memoryEvents)
	s.fill(t, 2000, 10)
	config := sessions(s.Schema())
	config.TakeLate = true
	_, err := importer.FromTable(testContext(t), s.Store, s.Pool, config)
	require.NoError(t, err)
	s.exec(t, `UPDATE {{schema}}.months SET state = 'detached', revision = revision + 1 WHERE month = '2024-02-01'`)
	s.exec(t, `ALTER TABLE {{schema}}.events DETACH PARTITION {{schema}}.events_2024_02`)
	report, err := importer.FromTable(testContext(t), s.Store, s.Pool, config)
	require.NoError(t, err)
	require.Zero(t, report.Late)
	require.Zero(t, report.Events)
}

func TestTablesThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		columns, rows, reason string
	}{
		"no such column":      {`id bigint PRIMARY KEY, event_type text, event_data json, created_at timestamptz`, ``, "session_id"},
		"a time as a text":    {strings.Replace(memoryEvents, "timestamptz", "text", 1), ``, "want a timestamp"},
		"no time":             {memoryEvents, `(gen_random_uuid(), 'x', '{}', NULL, 1)`, "no created_at"},
		"an endless time":     {memoryEvents, `('00000000-0000-0000-0000-000000000009', 'x', '{}', 'infinity', 1)`, "000000000009"},
		"a NULL id":           {strings.Replace(memoryEvents, "PRIMARY KEY", "", 1), `(NULL, 'x', '{}', now(), 1)`, "NULL"},
		"an id that is twice": {strings.Replace(memoryEvents, "PRIMARY KEY", "", 1), `('00000000-0000-0000-0000-000000000009', 'x', '{}', now(), 1), ('00000000-0000-0000-0000-000000000009', 'x', '{}', now(), 1)`, "several rows have the id 0000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSource(t, c.columns)
			if c.rows != "" {
				s.exec(t, `INSERT INTO {{schema}}.memory_events VALUES `+c.rows)
			}
			_, err := importer.FromTable(testContext(t), s.Store, s.Pool, sessions(s.Schema()))
			require.ErrorIs(t, err, importer.ErrTable)
			require.ErrorContains(t, err, c.reason)
			require.Zero(t, s.count(t, `SELECT count(*) FROM {{schema}}.events`))
		})
	}
	s := newSource(t, memoryEvents)
	config := sessions(s.Schema())
	config.Table = `no "such" table`
	_, err := importer.FromTable(testContext(t), s.Store, s.Pool, config)
	require.ErrorIs(t, err, importer.ErrTable)
	config = sessions(s.Schema())
	config.Name = ""
	_, err = importer.FromTable(testContext(t), s.Store, s.Pool, config)
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	s.fill(t, 1, 1)
	s.exec(t, `INSERT INTO {{schema}}.imports (name, bookmark) VALUES ('sessions', 'line 7')`)
	_, err = importer.FromTable(testContext(t), s.Store, s.Pool, sessions(s.Schema()))
	require.ErrorContains(t, err, "does another import have this name?")
}

// A view mends what a table lacks.
func TestViewAsTable(t *testing.T) {
	t.Parallel()
	s := newSource(t, memoryEvents)
	s.fill(t, 100, 3)
	s.exec(t, `UPDATE {{schema}}.memory_events SET created_at = NULL WHERE event_data->>'n' = '50'`)
	s.exec(t, `CREATE VIEW {{schema}}.mended AS SELECT id, coalesce(created_at, '2024-05-01') AS at, event_type AS kind, event_data AS body, 'session-' || session_id AS stream FROM {{schema}}.memory_events`)
	config := importer.TableConfig{
		Name: "mended", Schema: s.Schema(), Table: "mended", CreatedAtColumn: "at", TypeColumn: "kind", DataColumn: "body", StreamColumn: "stream",
	}
	report, err := importer.FromTable(testContext(t), s.Store, s.Pool, config)
	require.NoError(t, err)
	require.EqualValues(t, 100, report.Events)
}

// The table may be read through connections of any kind.
func TestTableOverOddConnections(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*pgx.ConnConfig){
		"exec mode, Honolulu": func(c *pgx.ConnConfig) {
			c.DefaultQueryExecMode = pgx.QueryExecModeExec
			c.RuntimeParams["timezone"] = "Pacific/Honolulu"
		},
		"simple protocol, Auckland": func(c *pgx.ConnConfig) {
			c.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
			c.RuntimeParams["timezone"] = "Pacific/Auckland"
		},
		"one connection": func(*pgx.ConnConfig) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSource(t, memoryEvents)
			s.fill(t, 3000, 7)
			pool := eventstoretest.Pool(t, s.Pool.Config().ConnString(), func(c *pgxpool.Config) {
				change(c.ConnConfig)
				if name == "one connection" { // for the table and the log
					c.MaxConns = 1
				}
			})
			store, err := eventstore.New(pool, eventstore.Config{Schema: s.Schema()})
			require.NoError(t, err)
			config := sessions(s.Schema())
			config.BatchEvents = 500
			_, err = importer.FromTable(testContext(t), store, pool, config)
			require.NoError(t, err)
			s.requireSame(t)
		})
	}
}

// A page may be read before anybody knows how large its rows are: it is short at first, and at most twice as long as the
// one before.
func TestPagesGrowSlowly(t *testing.T) {
	t.Parallel()
	s := newSource(t, memoryEvents)
	s.exec(t, `
INSERT INTO {{schema}}.memory_events
SELECT md5('row ' || i)::uuid, 'x', to_jsonb(repeat('x', CASE WHEN i > 150 THEN 200000 ELSE 1 END)), timestamptz '2024-01-01' + i * interval '1 s', 1, 'p'
  FROM generate_series(1, 400) AS i`)
	limits := &limits{}
	pool := eventstoretest.Pool(t, s.Pool.Config().ConnString(), func(c *pgxpool.Config) { c.ConnConfig.Tracer = limits })
	config := sessions(s.Schema())
	config.Map = func(_ importer.Row, event *eventstore.Imported) error { event.Skip = "a test"; return nil }
	_, err := importer.FromTable(testContext(t), s.Store, pool, config)
	require.NoError(t, err)
	require.Equal(t, []any{50, 100, 200, 41, 41}, limits.seen)
}

// limits notes how many rows each page asks for.
type limits struct{ seen []any }

func (l *limits) TraceQueryStart(ctx context.Context, _ *pgx.Conn, query pgx.TraceQueryStartData) context.Context {
	if strings.HasSuffix(query.SQL, "LIMIT $1::bigint") && strings.Contains(query.SQL, "t.*") {
		l.seen = append(l.seen, query.Args[1]) // after the format of the result
	}
	return ctx
}

func (*limits) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
