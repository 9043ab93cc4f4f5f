package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/internal/devdb"
)

// imported is an event of a stream, recorded at a time (zero: now).
func imported(id eventstore.StreamID, at time.Time, text string) eventstore.Imported {
	return eventstore.Imported{StreamID: id, RecordedAt: at, Event: eventstore.Event{ID: uuid.New(), Data: note{text}, OccurredAt: at}}
}

// sourceOf yields events after a bookmark; their bookmarks are their numbers from 1.
func sourceOf(events ...eventstore.Imported) eventstore.ImportSource {
	return func(bookmark string) iter.Seq2[eventstore.Imported, error] {
		return func(yield func(eventstore.Imported, error) bool) {
			after := 0
			if bookmark != "" {
				_, _ = fmt.Sscan(bookmark, &after)
			}
			for i, event := range events[after:] {
				event.Bookmark = fmt.Sprint(after + i + 1)
				if !yield(event, nil) {
					return
				}
			}
		}
	}
}

func versioned(events []eventstore.Imported) []eventstore.Imported {
	next := map[eventstore.StreamID]eventstore.Version{}
	out := slices.Clone(events)
	for i := range out {
		next[out[i].StreamID]++
		out[i].Version = next[out[i].StreamID]
	}
	return out
}

// requireLog compares the whole log with what was to be imported, in order.
func requireLog(t *testing.T, log testLog, want []eventstore.Imported) {
	t.Helper()
	got := eventstoretest.Collect(t, log.All(testContext(t, time.Minute), 0, eventstore.Filter{}))
	require.Len(t, got, len(want))
	for i, want := range versioned(want) {
		require.Equal(t, want.StreamID, got[i].StreamID, "event %d", i)
		require.Equal(t, want.Version, got[i].Version, "event %d", i)
		require.Equal(t, want.Event.ID, got[i].ID, "event %d", i)
		require.Equal(t, want.Event.Data, got[i].Data, "event %d", i)
		if !want.RecordedAt.IsZero() {
			require.Equal(t, want.RecordedAt.UTC(), got[i].RecordedAt, "event %d", i)
		}
		if !want.Event.OccurredAt.IsZero() {
			require.Equal(t, want.Event.OccurredAt.UTC(), got[i].OccurredAt, "event %d", i)
		}
	}
}

// oldEvents spreads events of a few streams over some months of 2024.
func oldEvents(n int) []eventstore.Imported {
	events := make([]eventstore.Imported, n)
	for i := range events {
		at := time.Date(2024, 1, 20, 12, 0, 0, 123456000, time.UTC).Add(time.Duration(i) * (150 * 24 * time.Hour / time.Duration(n))).Truncate(time.Microsecond)
		events[i] = imported(eventstore.StreamID(fmt.Sprintf("old-%d", i%7)), at, fmt.Sprint("text ", i))
	}
	return events
}

// Recorded times, ids and order are kept, months are made however old, heads are right, and appends go on.
func TestImportKeepsWhatItIsGiven(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	events := oldEvents(200)
	events[0].Event.Project = "p1"
	events[0].Event.Metadata = eventstore.Metadata{Actor: "ann"}
	var seen []eventstore.ImportReport
	report, err := log.Import(ctx, sourceOf(events...), eventstore.ImportConfig{
		BatchEvents: 60, Progress: func(r eventstore.ImportReport) { seen = append(seen, r) },
	})
	require.NoError(t, err)
	require.EqualValues(t, 200, report.Events)
	requireLog(t, log, events)

	require.Len(t, seen, 4, "once a batch")
	require.EqualValues(t, 120, seen[1].Events)
	require.Equal(t, "120", seen[1].Bookmark)
	require.Equal(t, report, seen[3])
	head, err := log.Head(ctx, "old-0")
	require.NoError(t, err)
	require.Equal(t, eventstore.Head{
		StreamID: "old-0", Version: 29, Project: "p1", FirstRecordedAt: events[0].RecordedAt, LastRecordedAt: events[196].RecordedAt,
	}, head)
	stream := eventstoretest.Collect(t, log.Stream(ctx, "old-0", 0))
	require.Len(t, stream, 29)
	require.Equal(t, "ann", stream[0].Metadata.Actor)

	receipt := log.append(t, "old-0", eventstore.AtVersion(29), note{"after"})
	require.Greater(t, receipt.Position(), report.Position)
	zero, err := log.Import(ctx, sourceOf(imported("old-0", time.Time{}, "now"), imported("new-0", time.Time{}, "now")), eventstore.ImportConfig{})
	require.NoError(t, err)
	require.EqualValues(t, 2, zero.Events)
	stream = eventstoretest.Collect(t, log.Stream(ctx, "old-0", 29))
	require.Len(t, stream, 2)
	require.False(t, stream[1].RecordedAt.Before(receipt.RecordedAt), "recorded now, not before the event before it")
	require.Equal(t, stream[1].RecordedAt, stream[1].OccurredAt)
}

// What an event of a batch breaks ends the import with its number and the facts; batches before it stay, nothing of its own
// batch is written.
func TestImportRefuses(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	base := time.Date(2025, 3, 5, 0, 0, 0, 0, time.UTC)
	closed := time.Date(2025, 5, 5, 0, 0, 0, 0, time.UTC)
	there := imported("there-1", base, "there")
	_, err := log.Import(ctx, sourceOf(there, imported("closed-1", closed, "x")), eventstore.ImportConfig{})
	require.NoError(t, err)
	log.exec(t, `UPDATE {{schema}}.months SET state = 'sealing', revision = revision + 1 WHERE month = '2025-05-01'`)

	at := func(version eventstore.Version, event eventstore.Imported) eventstore.Imported {
		event.Version = version
		return event
	}
	withID := func(id uuid.UUID, event eventstore.Imported) eventstore.Imported {
		event.Event.ID = id
		return event
	}
	body := func(json string) eventstore.Imported {
		event := imported("body-1", base, "")
		event.Event.Data = eventstore.Raw{Type: "note", JSON: rawJSON(json)}
		return event
	}
	for name, c := range map[string]struct {
		events []eventstore.Imported // the last one is wrong
		want   error
		reason string
	}{
		"a gap in the log":           {[]eventstore.Imported{at(3, imported("there-1", base, "x"))}, eventstore.ErrVersionGap, "version 2 is the next"},
		"a gap in the batch":         {[]eventstore.Imported{at(1, imported("gap-1", base, "x")), at(3, imported("gap-1", base, "x"))}, eventstore.ErrVersionGap, "version 2 is the next"},
		"a first version too high":   {[]eventstore.Imported{at(2, imported("gap-2", base, "x"))}, eventstore.ErrVersionGap, "version 1 is the next"},
		"a version given twice":      {[]eventstore.Imported{at(1, imported("gap-3", base, "x")), at(1, imported("gap-3", base, "x"))}, eventstore.ErrVersionGap, "version 2 is the next"},
		"a version too low":          {[]eventstore.Imported{imported("gap-4", base, "x"), at(1, imported("gap-4", base, "x"))}, eventstore.ErrVersionGap, "version 2 is the next"},
		"another event at a version": {[]eventstore.Imported{at(1, imported("there-1", base, "other"))}, eventstore.ErrVersionDiffers, "there-1 version 1"},
		"a time before the head's":   {[]eventstore.Imported{imported("there-1", base.Add(-time.Microsecond), "x")}, eventstore.ErrRecordedAt, "2025-03-04T23:59:59.999999Z is before 2025-03-05T00:00:00Z"},
		"a time falling in a batch":  {[]eventstore.Imported{imported("fall-1", base.Add(time.Hour), "x"), imported("fall-1", base, "x")}, eventstore.ErrRecordedAt, "fall-1 version 2"},
		"a time after now":           {[]eventstore.Imported{imported("fall-2", time.Time{}, "x"), imported("fall-2", base, "x")}, eventstore.ErrRecordedAt, "fall-2 version 2"},
		"a time ahead of the clock":  {[]eventstore.Imported{imported("clock-1", time.Now().Add(10*time.Minute), "x")}, eventstore.ErrClock, "later than"},
		"a time of another age":      {[]eventstore.Imported{imported("clock-2", time.Unix(-1<<40, 0), "x")}, eventstore.ErrInvalid, "recorded_at"},
		"an id of the log":           {[]eventstore.Imported{withID(there.Event.ID, imported("id-1", base, "x"))}, eventstore.ErrDuplicateID, there.Event.ID.String()},
		"an id twice":                {[]eventstore.Imported{withID(uuid.Max, imported("id-2", base, "x")), withID(uuid.Max, imported("id-3", base, "x"))}, eventstore.ErrDuplicateID, uuid.Max.String()},
		"a closed month":             {[]eventstore.Imported{imported("closed-2", closed, "x")}, eventstore.ErrMonthClosed, "2025-05"},
		"a body that is no JSON":     {[]eventstore.Imported{body(`{`)}, eventstore.ErrInvalid, "not valid JSON"},
		"an escaped NUL":             {[]eventstore.Imported{body(`"\u0000"`)}, eventstore.ErrInvalid, `\u0000`},
		"a body too large":           {[]eventstore.Imported{body(`"` + strings.Repeat("x", eventstore.MaxDataBytes) + `"`)}, eventstore.ErrInvalid, "at most"},
		"a stream id without one":    {[]eventstore.Imported{imported("nothing", base, "x")}, eventstore.ErrInvalid, "category-id"},
		"an unknown type":            {[]eventstore.Imported{{StreamID: "type-1", Event: eventstore.Event{Data: struct{}{}}}}, eventstore.ErrUnknownType, "struct"},
	} {
		t.Run(name, func(t *testing.T) {
			before := eventstoretest.Collect(t, log.All(ctx, 0, eventstore.Filter{}))
			filler := imported(eventstore.NewStreamID("filler"), time.Time{}, "x")
			alone := imported(eventstore.NewStreamID("filler"), time.Time{}, "x")
			events := append([]eventstore.Imported{filler, alone}, c.events...) // filler's batch is complete before c.events
			report, err := log.Import(ctx, sourceOf(events...), eventstore.ImportConfig{BatchEvents: max(2, len(c.events))})
			if len(c.events) == 1 {
				require.EqualValues(t, 2, report.Events, err)
			}
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.reason)
			var wrong *eventstore.ImportError
			require.ErrorAs(t, err, &wrong)
			require.EqualValues(t, len(events)-1, wrong.Index)
			require.Equal(t, events[len(events)-1].StreamID, wrong.StreamID)
			require.Equal(t, fmt.Sprint(len(events)), wrong.Bookmark)
			after := eventstoretest.Collect(t, log.All(ctx, 0, eventstore.Filter{}))
			require.Len(t, after, len(before)+int(report.Events), "nothing of the batch")
			for _, event := range c.events {
				if event.StreamID != "there-1" && event.StreamID.Validate() == nil {
					_, err := log.Head(ctx, event.StreamID)
					require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
				}
			}
		})
	}
}

// Without a bookmark a rerun is recognised by version and id; what the source has gained is written.
func TestImportAgainIsRecognised(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	events := versioned(oldEvents(150))
	config := eventstore.ImportConfig{BatchEvents: 40}
	_, err := log.Import(ctx, sourceOf(events[:101]...), config)
	require.NoError(t, err)
	report, err := log.Import(ctx, sourceOf(events...), config)
	require.NoError(t, err)
	require.Equal(t, eventstore.ImportCounts{Events: 49, Existing: 101}, report.ImportCounts)
	requireLog(t, log, events)

	events[75].Event.ID = uuid.New()
	_, err = log.Import(ctx, sourceOf(events...), config)
	require.ErrorIs(t, err, eventstore.ErrVersionDiffers)
	var wrong *eventstore.ImportError
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, events[75].StreamID, wrong.StreamID)
	require.Equal(t, events[75].Version, wrong.Version)

	unversioned := oldEvents(150)
	for i := range unversioned {
		unversioned[i].Event.ID = events[i].Event.ID
	}
	_, err = log.Import(ctx, sourceOf(unversioned[149]), config)
	require.ErrorIs(t, err, eventstore.ErrDuplicateID, "without a version, by the id in its month")
}

// With a name, the bookmark commits with the events: whatever ends an import, a rerun goes on after the last batch.
func TestImportResumesAtItsBookmark(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	events := oldEvents(230)
	broken := errors.New("the source broke")
	stopping := func(after int) eventstore.ImportSource {
		return func(bookmark string) iter.Seq2[eventstore.Imported, error] {
			return func(yield func(eventstore.Imported, error) bool) {
				n := 0
				for event, err := range sourceOf(events...)(bookmark) {
					require.NoError(t, err)
					if n++; n > after {
						yield(eventstore.Imported{}, broken)
						return
					}
					if !yield(event, nil) {
						return
					}
				}
			}
		}
	}
	config := eventstore.ImportConfig{Name: "old", BatchEvents: 20}
	var total int64
	for range 4 {
		report, err := log.Import(ctx, stopping(55), config)
		require.ErrorIs(t, err, broken)
		require.EqualValues(t, 40, report.Events)
		total += 40
		require.Equal(t, total, report.Total.Events)
		require.Equal(t, fmt.Sprint(total), report.Bookmark)
	}
	report, err := log.Import(ctx, sourceOf(events...), config)
	require.NoError(t, err)
	require.EqualValues(t, 70, report.Events)
	require.EqualValues(t, 230, report.Total.Events)
	requireLog(t, log, events)
	report, err = log.Import(ctx, sourceOf(events...), config)
	require.NoError(t, err)
	require.Zero(t, report.Events)
	require.Equal(t, "230", report.Bookmark)
	requireLog(t, log, events)
}

// Of two imports of one name at once, one is told; the events are there once.
func TestImportIsNotOvertakenUnnoticed(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	events := oldEvents(60)
	for i := range events { // nothing but the bookmark would notice
		events[i].RecordedAt, events[i].Event.ID = time.Time{}, uuid.Nil
	}
	config := eventstore.ImportConfig{Name: "twice", BatchEvents: 20}
	slow := func(bookmark string) iter.Seq2[eventstore.Imported, error] {
		return func(yield func(eventstore.Imported, error) bool) {
			n := 0
			for event, err := range sourceOf(events...)(bookmark) {
				if n++; n == 30 { // the first batch is being written
					require.Eventually(t, func() bool { // not with require: it would end the condition's goroutine only
						var batches int
						err := log.Pool.QueryRow(ctx, log.sql(`SELECT batches FROM {{schema}}.imports`)).Scan(&batches)
						return err == nil && batches == 1
					}, 10*time.Second, 10*time.Millisecond)
					_, err := log.Import(ctx, sourceOf(events...), config)
					require.NoError(t, err)
				}
				if !yield(event, err) {
					return
				}
			}
		}
	}
	report, err := log.Import(ctx, slow, config)
	require.ErrorIs(t, err, eventstore.ErrImportOvertaken)
	require.EqualValues(t, 20, report.Events)
	require.Len(t, eventstoretest.Collect(t, log.All(ctx, 0, eventstore.Filter{})), 60)
	report, err = log.Import(ctx, sourceOf(events...), config)
	require.NoError(t, err)
	require.EqualValues(t, 60, report.Total.Events)
	require.Zero(t, report.Events)
}

// What is left out is counted and kept, with its reason, in the batch's transaction.
func TestImportSkips(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	events := oldEvents(11)
	events[3].Skip = "a test session\x00"
	events[2] = events[3]
	events[2].Skip = "the same id"
	events[6].Event.Data = eventstore.Raw{Type: "note", JSON: rawJSON(`"\u0000"`)}
	report, err := log.Import(ctx, sourceOf(events...), eventstore.ImportConfig{
		Name: "skipping", BatchEvents: 4, Skip: func(event eventstore.Imported, err error) string { return event.Bookmark + ": " + err.Error() },
	})
	require.NoError(t, err)
	require.Equal(t, eventstore.ImportCounts{Events: 8, Skipped: 3}, report.ImportCounts)
	require.Equal(t, report.ImportCounts, report.Total)
	rows, err := log.Pool.Query(ctx, log.sql(`SELECT event_id, bookmark, reason FROM {{schema}}.import_skips WHERE import = 'skipping' ORDER BY bookmark`))
	require.NoError(t, err)
	type skip struct {
		ID               uuid.UUID
		Bookmark, Reason string
	}
	skips, err := pgx.CollectRows(rows, pgx.RowToStructByPos[skip])
	require.NoError(t, err)
	require.Len(t, skips, 2)
	require.Equal(t, skip{events[3].Event.ID, "4", "a test session"}, skips[0])
	require.Equal(t, events[6].Event.ID, skips[1].ID)
	require.Contains(t, skips[1].Reason, `7: event 6 (old-6): data holds \u0000`)
}

// What is missing is found, wherever it was to be recorded; what an import left out, or a month took along, is not missing.
func TestNotImported(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	events := oldEvents(10)
	events[3].Skip = "a test session"
	_, err := log.Import(ctx, sourceOf(events...), eventstore.ImportConfig{})
	require.NoError(t, err)
	strange := uuid.New()
	ids := []uuid.UUID{events[0].Event.ID, strange, events[3].Event.ID, events[9].Event.ID}
	march := time.Date(2024, 3, 3, 0, 0, 0, 0, time.UTC)
	for _, recorded := range [][]time.Time{nil, {march, march, march, march}, {events[0].RecordedAt, march, march, events[9].RecordedAt}} {
		missing, err := log.NotImported(ctx, ids, recorded)
		require.NoError(t, err)
		require.Equal(t, []uuid.UUID{strange}, missing)
	}
	log.exec(t, `UPDATE {{schema}}.months SET state = 'dropped' WHERE month = '2024-03-01'`)
	missing, err := log.NotImported(ctx, ids, []time.Time{march, march, march, march})
	require.NoError(t, err)
	require.Empty(t, missing)
	missing, err = log.NotImported(ctx, nil, []time.Time{})
	require.NoError(t, err)
	require.Empty(t, missing)
	_, err = log.NotImported(ctx, ids, []time.Time{march})
	require.ErrorIs(t, err, eventstore.ErrInvalid)
}

// A month that an import has made is as one that was made ahead.
func TestMonthsOfImportsAreLikeOthers(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	_, err := log.Import(ctx, sourceOf(oldEvents(1)...), eventstore.ImportConfig{})
	require.NoError(t, err)
	describeLeaf := func(month time.Time) string {
		leaf := month.Format("events_2006_01")
		var text string
		require.NoError(t, log.Pool.QueryRow(ctx, log.sql(`
SELECT concat(pg_get_userbyid(c.relowner), c.relacl, c.reloptions, (SELECT state FROM {{schema}}.months WHERE month = $2),
         (SELECT string_agg(conname || contype::text || CASE contype WHEN 'c' THEN '' ELSE pg_get_constraintdef(oid) END, ',' ORDER BY conname) FROM pg_constraint WHERE conrelid = c.oid),
         (SELECT string_agg(tgname || tgtype::text, ',' ORDER BY tgname, tgtype) FROM pg_trigger WHERE tgrelid = c.oid),
         (SELECT string_agg(attname || attnotnull::text, ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0))
  FROM pg_class c WHERE c.oid = to_regclass($1)`), log.Schema()+"."+leaf, month).Scan(&text))
		return strings.ReplaceAll(text, leaf, "LEAF")
	}
	now := time.Now().UTC()
	ahead := describeLeaf(time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC))
	require.Contains(t, ahead, "append_only_truncate")
	require.Contains(t, ahead, "LEAF_event_id_key")
	require.Equal(t, ahead, describeLeaf(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)))
	var lifted bool
	require.NoError(t, log.Pool.QueryRow(ctx, log.sql(`SELECT EXISTS (SELECT FROM {{schema}}.settings)`)).Scan(&lifted))
	require.False(t, lifted, "the log takes no time but its own afterwards")
}

// An import runs with the rights of its own role: the documented ones suffice, any less is ErrNotAllowed.
func TestImportNeedsRights(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 2*time.Minute)
	cluster, err := devdb.StartCluster(ctx, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	admin := eventstoretest.Pool(t, cluster.URL())
	owner, err := eventstore.New(admin, eventstore.Config{})
	require.NoError(t, err)
	require.NoError(t, owner.Migrate(ctx))
	exec := func(sql string) {
		t.Helper()
		_, err := admin.Exec(ctx, sql)
		require.NoError(t, err)
	}
	exec(`CREATE ROLE importer LOGIN PASSWORD 'importer'`)
	store, err := eventstore.New(connectAs(ctx, t, cluster.URL(), func(c *pgx.ConnConfig) { c.User, c.Password = "importer", "importer" }), eventstore.Config{})
	require.NoError(t, err)
	raw := eventstore.Imported{
		StreamID: "a-1", RecordedAt: time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC),
		Event: eventstore.Event{Data: eventstore.Raw{Type: "note", JSON: rawJSON(`{}`)}},
	}
	config := eventstore.ImportConfig{Name: "x"}
	for _, grant := range []string{
		`GRANT USAGE ON SCHEMA hindsight TO importer`,
		`GRANT SELECT, INSERT, UPDATE ON hindsight.imports, hindsight.import_skips TO importer`,
		`GRANT SELECT, INSERT, UPDATE ON hindsight.streams TO importer`,
		`GRANT SELECT ON hindsight.months, hindsight.settings TO importer`,
		`GRANT USAGE ON SEQUENCE hindsight.events_position_seq TO importer`,
		`GRANT EXECUTE ON FUNCTION hindsight.make_month TO importer`,
		`GRANT SELECT, INSERT ON hindsight.events TO importer`,
	} {
		_, err := store.Import(ctx, sourceOf(raw), config)
		require.ErrorIs(t, err, eventstore.ErrNotAllowed, "without %s", grant)
		exec(grant)
	}
	report, err := store.Import(ctx, sourceOf(raw), config)
	require.NoError(t, err)
	require.EqualValues(t, 1, report.Events)
	require.Len(t, eventstoretest.Collect(t, owner.Stream(ctx, "a-1", 0)), 1)

	kept := raw
	kept.StreamID, kept.Position = "a-2", 1000
	_, err = store.Import(ctx, sourceOf(kept), eventstore.ImportConfig{KeepPositions: true})
	require.ErrorIs(t, err, eventstore.ErrNotAllowed, "keeping positions is the owner's")
}

func TestImportArguments(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := t.Context()
	for _, config := range []eventstore.ImportConfig{{BatchEvents: -1}, {BatchEvents: 50_001}, {Name: "\n"}, {Name: strings.Repeat("x", 201)}} {
		_, err := log.Import(ctx, sourceOf(), config)
		require.ErrorIs(t, err, eventstore.ErrInvalid, "%+v", config)
	}
	tx, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(context.WithoutCancel(ctx))) }()
	_, err = log.WithTx(tx).Import(ctx, sourceOf(), eventstore.ImportConfig{})
	require.ErrorIs(t, err, eventstore.ErrNoPool)
	report, err := log.Import(ctx, sourceOf(), eventstore.ImportConfig{Name: "empty"})
	require.NoError(t, err)
	require.Equal(t, eventstore.ImportReport{}, report)

	half := func(string) iter.Seq2[eventstore.Imported, error] {
		return func(yield func(eventstore.Imported, error) bool) {
			marked := imported("half-1", time.Time{}, "x")
			marked.Bookmark = "1"
			_ = yield(marked, nil) && yield(imported("half-1", time.Time{}, "y"), nil)
		}
	}
	_, err = log.Import(ctx, half, eventstore.ImportConfig{Name: "half"})
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	require.ErrorContains(t, err, "bookmark")
}
