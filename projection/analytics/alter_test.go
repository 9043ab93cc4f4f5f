package analytics_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// band is an attribute that comes later.
func band() analytics.Config {
	return analytics.Config{Attributes: []analytics.Attribute{{
		Of:     analytics.Personas,
		Column: analytics.Column{Name: "band", Type: `text COLLATE "C" NOT NULL DEFAULT 'none' CHECK (band <> '')`, Comment: "A band of ages."},
		Value: func(e eventstore.Recorded) any {
			if d, ok := e.Data.(focusgroup.PersonaEdited); ok {
				return fmt.Sprint("of ", d.Age/10)
			}
			return "new"
		},
	}}}
}

const bandOfRow = `CASE WHEN age < 40 THEN 'young' ELSE 'old' END`

// appendPersonas appends many personas, on one stream.
func appendPersonas(t testing.TB, log *eventstoretest.Log, n int) {
	t.Helper()
	for from := 0; from < n; from += 500 {
		payloads := make([]any, min(500, n-from))
		for i := range payloads {
			payloads[i] = focusgroup.PersonaCreated{PersonaID: fmt.Sprintf("m%05d", from+i), ProjectID: "p1", UserID: "u1", Name: "Many", Attributes: focusgroup.Attributes{Age: 20 + (from+i)%50}}
		}
		appendAt(t, log, "persona-many", smallWorld(), payloads...)
	}
}

// runInBackground runs a star until the test ends.
func runInBackground(t testing.TB, star *analytics.Star, log *eventstoretest.Log) *projection.Runner {
	t.Helper()
	runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{star}})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return runner
}

// An attribute comes into a table that is read, written and locked meanwhile: readers and the projection go on.
func TestAColumnIsAddedWhileTheTableIsInUse(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	log := newLog(t)
	appendWorld(t, log)
	appendPersonas(t, log, 2500)
	old := builtStar(t, log, analytics.Config{})
	runner := runInBackground(t, old, log)

	// A reader, a writer, and a transaction that holds the table.
	working, stop := context.WithCancel(ctx)
	defer stop()
	var reads, writes atomic.Int64
	ended := make(chan error, 2)
	go func() {
		for working.Err() == nil {
			var n int
			if err := log.Pool.QueryRow(ctx, `SELECT count(*) FROM `+log.Schema()+`.dim_personas WHERE age < 40`).Scan(&n); err != nil {
				ended <- fmt.Errorf("reader: %w", err)
				return
			}
			reads.Add(1)
		}
		ended <- nil
	}()
	var last eventstore.Receipt
	go func() {
		for i := 0; working.Err() == nil; i++ {
			persona := focusgroup.PersonaEdited{PersonaID: fmt.Sprintf("m%05d", i%2500), ProjectID: "p1", UserID: "u1", Name: fmt.Sprint("Edited ", i), Attributes: focusgroup.Attributes{Age: 30}}
			receipt, err := log.Append(ctx, focusgroup.PersonaStream(persona.PersonaID), eventstore.Any, eventstore.Event{Data: persona, OccurredAt: smallWorld()})
			if err != nil {
				ended <- fmt.Errorf("writer: %w", err)
				return
			}
			last = receipt
			writes.Add(1)
		}
		ended <- nil
	}()
	holder, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = holder.Exec(ctx, `LOCK TABLE `+log.Schema()+`.dim_personas_v1 IN ACCESS SHARE MODE`)
	require.NoError(t, err)

	young, err := analytics.New(log.Store, band())
	require.NoError(t, err)
	var steps []string
	waited, batches := 0, 0
	err = young.AddColumn(ctx, "dim_personas", "band", analytics.Backfill{Value: bandOfRow, Progress: func(p analytics.AddProgress) {
		if step := p.Table + " " + p.Step; len(steps) == 0 || steps[len(steps)-1] != step {
			steps = append(steps, step)
		}
		if p.Step == "fill" {
			batches++
		}
		if p.Waits == 3 && holder != nil { // it has tried in vain: everybody else goes on meanwhile
			r, w := reads.Load(), writes.Load()
			require.Eventually(t, func() bool { return reads.Load() > r+5 && writes.Load() > w+5 }, 30*time.Second, time.Millisecond)
			require.NoError(t, holder.Rollback(ctx))
			holder, waited = nil, p.Waits
		}
	}})
	require.NoError(t, err)
	require.Equal(t, 3, waited)
	require.GreaterOrEqual(t, batches, 6, "three batches of 1,000 for each of the two tables")
	require.Equal(t, []string{
		"dim_persona_history add", "dim_persona_history fill", "dim_persona_history hold", "dim_persona_history show",
		"dim_personas add", "dim_personas fill", "dim_personas hold", "dim_personas show",
	}, steps)
	r, w := reads.Load(), writes.Load()
	require.Eventually(t, func() bool { return reads.Load() > r && writes.Load() > w }, 30*time.Second, time.Millisecond)
	stop()
	require.NoError(t, <-ended)
	require.NoError(t, <-ended)
	require.NoError(t, runner.WaitFor(ctx, "analytics", last.Position()))
	requireBand(t, log)
	require.Empty(t, byOutcome(checked(t, old), analytics.Failed))

	wrong := func(table string) (n int) {
		t.Helper()
		require.NoError(t, log.Pool.QueryRow(ctx, `SELECT count(*) FROM `+log.Schema()+`.`+table+` WHERE band IS DISTINCT FROM `+bandOfRow).Scan(&n))
		return n
	}
	require.Positive(t, wrong("dim_persona_history"), "the old code has written since, and knows no bands")
	appendAt(t, log, focusgroup.PersonaStream("m00000"), smallWorld(), focusgroup.PersonaEdited{PersonaID: "m00000", ProjectID: "p1", UserID: "u1", Name: "Many", Attributes: focusgroup.Attributes{Age: 90}})
	last = appendAt(t, log, focusgroup.PersonaStream("late"), smallWorld(), focusgroup.PersonaCreated{PersonaID: "late", ProjectID: "p1", UserID: "u1", Name: "Many", Attributes: focusgroup.Attributes{Age: 20}})
	require.NoError(t, runner.WaitFor(ctx, "analytics", last.Position()))
	require.GreaterOrEqual(t, wrong("dim_personas"), 2, "a new one, and one that has grown old")
	require.NoError(t, young.AddColumn(ctx, "dim_personas", "band", analytics.Backfill{Value: bandOfRow}), "again, when the old code is gone")
	require.Zero(t, wrong("dim_persona_history"))
	require.Zero(t, wrong("dim_personas"))
}

// requireBand asks that the column is as it was declared, in tables and views.
func requireBand(t testing.TB, log *eventstoretest.Log) {
	t.Helper()
	for _, table := range []string{"dim_personas", "dim_persona_history"} {
		var notNull bool
		var comment string
		var constraints, young, old int
		physical := log.Schema() + "." + table + "_v1"
		require.NoError(t, log.Pool.QueryRow(t.Context(), `
SELECT attnotnull, col_description(attrelid, attnum), (SELECT count(*) FROM pg_constraint WHERE conrelid = attrelid AND contype = 'c' AND convalidated)
  FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = 'band'`, physical).Scan(&notNull, &comment, &constraints))
		require.True(t, notNull)
		require.Equal(t, "A band of ages.", comment)
		require.Equal(t, 1, constraints, "band <> '' is held to, the scaffold is gone")
		require.NoError(t, log.Pool.QueryRow(t.Context(), `
SELECT count(*) FILTER (WHERE band = 'young'), count(*) FILTER (WHERE band = 'old') FROM `+log.Schema()+`.`+table+` WHERE name = 'Many'`).Scan(&young, &old))
		require.Positive(t, young)
		require.Positive(t, old)
		require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = 'band'`,
			log.Schema()+"."+table).Scan(&comment))
		require.Equal(t, "A band of ages.", comment, "the view's")
	}
}

// A kill in the middle loses a batch at most: the next call goes on where it was.
func TestAddingAColumnIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	appendPersonas(t, log, 2494)
	builtStar(t, log, analytics.Config{})
	star, err := analytics.New(log.Store, band())
	require.NoError(t, err)
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	err = star.AddColumn(ctx, "dim_personas", "band", analytics.Backfill{Value: bandOfRow, Progress: func(p analytics.AddProgress) {
		if p.Filled == 1000 {
			kill()
		}
	}})
	require.ErrorIs(t, err, context.Canceled)
	var filled int64
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT count(band) FROM `+log.Schema()+`.dim_persona_history_v1`).Scan(&filled))
	require.EqualValues(t, 1000, filled)
	var total int64
	require.NoError(t, star.AddColumn(t.Context(), "dim_personas", "band", analytics.Backfill{Value: bandOfRow, Progress: func(p analytics.AddProgress) { total = p.Filled }}))
	var history int64
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT count(*) FROM `+log.Schema()+`.dim_persona_history`).Scan(&history))
	require.EqualValues(t, 2501, total-(history-1000), "the 2,500 personas and the one that stands for none, and the states, but for those filled before")
	requireBand(t, log)

	// The code that declares the attribute goes on with the tables.
	appendAt(t, log, focusgroup.PersonaStream("a2"), smallWorld(), focusgroup.PersonaEdited{PersonaID: "a2", ProjectID: "p1", UserID: "u1", Name: "Bert", Attributes: focusgroup.Attributes{Age: 71}})
	runUntilSettled(t, log, star)
	var now, before string
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT p.band, h.band FROM `+log.Schema()+`.dim_personas p JOIN `+log.Schema()+`.dim_persona_history h USING (persona_id)
 WHERE persona_id = 'a2' AND h.valid_to IS NOT NULL`).Scan(&now, &before))
	require.Equal(t, "of 7", now)
	require.Equal(t, "young", before)
}

// A column of a fact comes into each of its partitions.
func TestAColumnOfAFact(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	appendDiscussion(t, log, "discussion-9", smallWorld().AddDate(0, 1, 0), "p1", true)
	fact := analytics.Fact{
		Name: "fact_answers", Grain: "A row a response.", Types: []string{focusgroup.TypeResponse},
		Columns: []analytics.Column{{Name: "seconds", Type: "double precision NOT NULL", Comment: "Seconds it took."}},
		Rows: func(e eventstore.Recorded) ([]analytics.Row, error) {
			return []analytics.Row{{Values: []any{e.Data.(focusgroup.Response).DurationSeconds}}}, nil
		},
	}
	builtStar(t, log, analytics.Config{Facts: []analytics.Fact{fact}})
	with := func(c analytics.Column) *analytics.Star {
		longer := fact
		longer.Columns = append([]analytics.Column{}, append(fact.Columns, c)...)
		star, err := analytics.New(log.Store, analytics.Config{Facts: []analytics.Fact{longer}})
		require.NoError(t, err)
		return star
	}
	add := func(star *analytics.Star, value string) error {
		return star.AddColumn(t.Context(), "fact_answers", "minutes", analytics.Backfill{Value: value})
	}
	minutes := analytics.Column{Name: "minutes", Type: "numeric(9, 4)", Comment: "Minutes it took."}
	require.ErrorContains(t, add(with(minutes), "nonsense"), "nonsense")
	require.NoError(t, add(with(minutes), "seconds / 60"))
	var rows, leaves, wrong int
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT count(*), count(DISTINCT tableoid), count(*) FILTER (WHERE minutes IS DISTINCT FROM round((seconds / 60)::numeric, 4)) FROM `+log.Schema()+`.fact_answers_v1`).Scan(&rows, &leaves, &wrong))
	require.Equal(t, 16, rows)
	require.Equal(t, 2, leaves)
	require.Zero(t, wrong)
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT count(minutes) FROM `+log.Schema()+`.fact_answers`).Scan(&rows))
	require.Equal(t, 16, rows, "the view shows it")

	for name, c := range map[string]analytics.Column{
		"no default":       {Name: "minutes", Type: "integer NOT NULL", Comment: "x"},
		"a dimension's":    {Name: "minutes", Of: analytics.Users, Comment: "x"},
		"an index":         {Name: "minutes", Type: "integer", Comment: "x", Index: true},
		"a generated one":  {Name: "minutes", Type: "integer GENERATED ALWAYS AS (1) STORED", Comment: "x"},
		"a key":            {Name: "minutes", Type: "integer UNIQUE", Comment: "x"},
		"not declared yet": {Name: "hours", Type: "integer", Comment: "x"},
	} {
		require.ErrorIs(t, add(with(c), ""), eventstore.ErrInvalid, name)
	}
}

// What cannot be is found before anything changes: a constraint that rows break would have the projection's own rows refused.
func TestAColumnThatCannotBeChangesNothing(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	builtStar(t, log, analytics.Config{})
	add := func(kind, value string) error {
		config := band()
		config.Attributes[0].Column.Type = kind
		star, err := analytics.New(log.Store, config)
		require.NoError(t, err)
		return star.AddColumn(t.Context(), "dim_personas", "band", analytics.Backfill{Value: value})
	}
	const kind = `text NOT NULL DEFAULT 'none' CHECK (band <> '')`
	err := add(kind, `CASE WHEN persona_id = 'a3' THEN '' ELSE 'x' END`)
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	require.ErrorContains(t, err, "(a3, ", "the row")
	err = add(kind, `nullif(persona_id, 'a2')`)
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	require.ErrorContains(t, err, "NOT NULL, which the row")
	err = add(`text NOT NULL DEFAULT '' CHECK (band <> '')`, `'x'`)
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	require.ErrorContains(t, err, "DEFAULT")
	require.ErrorContains(t, add(kind, `created_at::text`), "created_at", "the history has no such column")
	require.ErrorContains(t, add(kind, `valid_from::text`), "valid_from", "the members have no such column")
	var columns int
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT count(*) FROM information_schema.columns WHERE table_schema = $1 AND column_name = 'band'`, log.Schema()).Scan(&columns))
	require.Zero(t, columns)
}

// A constraint that turns out broken when it is validated is taken away again: the projection goes on.
func TestAConstraintThatRowsBreakIsTakenAway(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	old := builtStar(t, log, analytics.Config{})
	_, err := log.Pool.Exec(t.Context(), strings.ReplaceAll(`CREATE TABLE {{s}}.moods (good boolean); INSERT INTO {{s}}.moods VALUES (true);
CREATE FUNCTION {{s}}.fine(text) RETURNS boolean LANGUAGE sql AS 'SELECT good FROM {{s}}.moods'`, "{{s}}", log.Schema()))
	require.NoError(t, err)
	config := band()
	config.Attributes[0].Column.Type = `text DEFAULT 'none' CHECK (` + log.Schema() + `.fine(band))`
	star, err := analytics.New(log.Store, config)
	require.NoError(t, err)
	mood := func(good bool) {
		_, err := log.Pool.Exec(t.Context(), `UPDATE `+log.Schema()+`.moods SET good = $1`, good)
		require.NoError(t, err)
	}
	err = star.AddColumn(t.Context(), "dim_personas", "band", analytics.Backfill{Progress: func(p analytics.AddProgress) {
		if p.Step == "hold" { // it has been added, and not been validated yet
			mood(false)
		}
	}})
	require.ErrorContains(t, err, "is violated by some row")
	appendAt(t, log, focusgroup.PersonaStream("a2"), smallWorld(), focusgroup.PersonaEdited{PersonaID: "a2", ProjectID: "p1", Name: "Bert"})
	advance(t, log, old)
	mood(true)
	require.NoError(t, star.AddColumn(t.Context(), "dim_personas", "band", analytics.Backfill{}))
}

// A fact with Lines has a key of three columns, whose pages begin and end among the rows of an event.
func TestAColumnOfAMonthOfManyLines(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	const events, lines = 240, 7
	payloads := make([]any, events)
	for i := range payloads {
		payloads[i] = focusgroup.Response{PersonaID: "a1", Text: fmt.Sprint("word ", i)}
	}
	at := time.Date(2025, 3, 3, 9, 0, 0, 0, time.UTC)
	appendAt(t, log, "discussion-1", at, payloads...)
	fact := analytics.Fact{
		Name: "fact_words", Grain: "A row a word.", Types: []string{focusgroup.TypeResponse}, Lines: true,
		Columns: []analytics.Column{{Name: "word", Type: "text NOT NULL", Comment: "The word."}},
		Rows: func(eventstore.Recorded) ([]analytics.Row, error) {
			rows := make([]analytics.Row, lines)
			for i := range rows {
				rows[i].Values = []any{fmt.Sprint(i)}
			}
			return rows, nil
		},
	}
	builtStar(t, log, analytics.Config{Facts: []analytics.Fact{fact}})
	fact.Columns = append(fact.Columns, analytics.Column{Name: "twice", Type: "integer", Comment: "Twice the line."})
	star, err := analytics.New(log.Store, analytics.Config{Facts: []analytics.Fact{fact}})
	require.NoError(t, err)
	batches, filled := 0, int64(0)
	require.NoError(t, star.AddColumn(t.Context(), "fact_words", "twice", analytics.Backfill{Value: "2 * line", Progress: func(p analytics.AddProgress) {
		if p.Step == "fill" {
			batches, filled = batches+1, p.Filled
		}
	}}))
	require.Equal(t, 2, batches)
	require.EqualValues(t, events*lines, filled)
	var rows, leaves, wrong int
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT count(*), count(DISTINCT tableoid), count(*) FILTER (WHERE twice IS DISTINCT FROM 2 * line) FROM `+log.Schema()+`.fact_words_v1`).Scan(&rows, &leaves, &wrong))
	require.Equal(t, events*lines, rows)
	require.Equal(t, 1, leaves)
	require.Zero(t, wrong)
}
