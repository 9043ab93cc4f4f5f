package analytics_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// erasable is a cipher whose keys are the streams; what it writes hides nothing, but it does not read what was erased.
func erasable(erased *sync.Map) eventstore.Cipher {
	return eventstore.Cipher{
		Encode: func(_ context.Context, e eventstore.CipherInfo) (json.RawMessage, string, error) {
			body, err := json.Marshal([]json.RawMessage{e.JSON})
			return body, string(e.StreamID), err
		},
		Decode: func(_ context.Context, e eventstore.CipherInfo) (json.RawMessage, error) {
			if _, gone := erased.Load(e.Metadata.KeyID); gone {
				return nil, errors.New("the key was erased")
			}
			var body []json.RawMessage
			err := json.Unmarshal(e.JSON, &body)
			return slices.Concat(body...), err
		},
	}
}

// Events whose key was erased keep their rows; where they have none, the note names them.
func TestChecksOfErasedEvents(t *testing.T) {
	t.Parallel()
	var erased sync.Map
	log := eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec(), Cipher: erasable(&erased)})
	appendWorld(t, log)
	star := builtStar(t, log, analytics.Config{})
	erased.Store("discussion-1", true)
	report := checked(t, star)
	require.Empty(t, byOutcome(report, analytics.Failed), report)
	require.Empty(t, byOutcome(report, analytics.Errored), report)
	result := resultOf(t, report, "fact_discussion_turns.completeness")
	require.EqualValues(t, 12, result.Total)
	require.Equal(t, "positions 1 to 36; the bodies of 6 cannot be read any more, and 0 of these have no rows", result.Note)
	require.EqualValues(t, 12, resultOf(t, report, "fact_discussion_turns.agrees").Total)

	tamper(t, log, `DELETE FROM fact_discussion_turns_v1 WHERE position = 14`)
	result = resultOf(t, checked(t, star), "fact_discussion_turns.completeness")
	require.Equal(t, analytics.Passed, result.Outcome)
	require.Equal(t, "positions 1 to 36; the bodies of 6 cannot be read any more, and 1 of these have no rows: positions [14]", result.Note)
}

// A program that does not know a type cannot judge the facts of it.
func TestChecksOfEventsThatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	builtStar(t, log, analytics.Config{})
	types := slices.DeleteFunc(focusgroup.Types(), func(e eventstore.EventType) bool { return e.Name() == focusgroup.TypeResponse })
	codec, err := eventstore.NewCodec(types...)
	require.NoError(t, err)
	store, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema(), Codec: codec})
	require.NoError(t, err)
	star, err := analytics.New(store, analytics.Config{})
	require.NoError(t, err)
	report := checked(t, star)
	require.False(t, report.OK())
	for _, name := range []string{"fact_discussion_turns.completeness", "fact_discussion_turns.agrees"} {
		result := resultOf(t, report, name)
		require.Equal(t, analytics.Errored, result.Outcome, name)
		require.Contains(t, result.Note, "position 13: unknown event type: response", name)
	}
	require.Equal(t, analytics.Passed, resultOf(t, report, "fact_survey_answers.completeness").Outcome, "it needs no responses")
}

// Facts outlive the log's months: those of a month that was taken off it are right without their events.
func TestChecksOfFactsWhoseMonthWasTakenOff(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	star := builtStar(t, log, analytics.Config{})
	tamper(t, log, `DELETE FROM events WHERE position = 13`)
	require.Equal(t, analytics.Failed, resultOf(t, checked(t, star), "fact_discussion_turns.completeness").Outcome)
	tamper(t, log, `INSERT INTO months (month, state, first_position, last_position) VALUES ('2001-01-01', 'dropped', 1, 13)`)
	result := resultOf(t, checked(t, star), "fact_discussion_turns.completeness")
	require.Equal(t, analytics.Passed, result.Outcome)
	require.EqualValues(t, 17, result.Total, "the events that are there are looked at")
}

// A sample of values is taken from the older part of a long log, too.
func TestValuesOfOlderFactsAreSampled(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	turn := focusgroup.Response{ProjectID: "p1", UserID: "u1", PersonaID: "a1", Text: "yes", Question: "Is it?", DurationSeconds: 4}
	for _, id := range []eventstore.StreamID{"discussion-4", "discussion-5"} {
		appendAt(t, log, id, smallWorld(), slices.Repeat([]any{turn}, 1000)...)
	}
	star := builtStar(t, log, analytics.Config{})
	result := resultOf(t, checked(t, star), "fact_discussion_turns.agrees")
	require.Equal(t, analytics.Passed, result.Outcome, result)
	require.Greater(t, result.Total, int64(100), "the newest hundred, and some before")
	tamper(t, log, `UPDATE fact_discussion_turns_v1 SET on_question = NULL WHERE position <= 1036`)
	result = resultOf(t, checked(t, star), "fact_discussion_turns.agrees")
	require.Equal(t, analytics.Failed, result.Outcome, result)
	require.Len(t, result.Rows, min(int(result.Failing), 20))
	require.Contains(t, string(result.Rows[0]), `"column":"on_question","stored":null,"made":"`)
}

// Columns that AddColumn filled hold what the caller said; the others are compared.
func TestValuesOfAnAddedColumnAreNotCompared(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	fact := analytics.Fact{
		Name: "fact_answers", Grain: "A row a response.", Types: []string{focusgroup.TypeResponse},
		Columns: []analytics.Column{{Name: "seconds", Type: "double precision NOT NULL", Comment: "Seconds it took."}},
		Rows: func(e eventstore.Recorded) ([]analytics.Row, error) {
			return []analytics.Row{{Values: []any{e.Data.(focusgroup.Response).DurationSeconds}}}, nil
		},
	}
	builtStar(t, log, analytics.Config{Facts: []analytics.Fact{fact}})
	fact.Columns = append(fact.Columns, analytics.Column{Name: "minutes", Type: "json", Comment: "Minutes it took."})
	seconds := fact.Rows
	fact.Rows = func(e eventstore.Recorded) ([]analytics.Row, error) {
		rows, err := seconds(e)
		rows[0].Values = append(rows[0].Values, "1")
		return rows, err
	}
	star, err := analytics.New(log.Store, analytics.Config{Facts: []analytics.Fact{fact}})
	require.NoError(t, err)
	require.NoError(t, star.AddColumn(t.Context(), "fact_answers", "minutes", analytics.Backfill{Value: "'2'"}))
	result := resultOf(t, checked(t, star), "fact_answers.agrees")
	require.Equal(t, analytics.Passed, result.Outcome, result)
	require.EqualValues(t, 12, result.Total)
	tamper(t, log, `UPDATE fact_answers_v1 SET seconds = 7.25`)
	require.EqualValues(t, 12, resultOf(t, checked(t, star), "fact_answers.agrees").Failing)
}

// Values are compared as their types write them, whatever the type.
func TestValuesOfAnyType(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	at := time.Date(2025, 3, 30, 1, 30, 0, 123456789, time.UTC)
	fact := analytics.Fact{
		Name: "fact_odd", Grain: "A row a response.", Types: []string{focusgroup.TypeResponse},
		Rows: func(eventstore.Recorded) ([]analytics.Row, error) {
			return []analytics.Row{{Values: []any{
				float32(0.1), 1.0 / 3, 12.3456, `{"b": 1.50,  "a": 2}`, `{"b": 1.50,  "a": 2}`, map[string]any{"k": []int{1}}, []int32{1, 2}, at, at, "abc  ", true, []byte("\x00a"), nil, 7,
			}}}, nil
		},
	}
	for i, kind := range []string{
		"real", "double precision", "numeric(6, 2)", "json", "jsonb", "jsonb", "integer[]", "timestamptz", "date", "char(6)", "boolean", "bytea", "interval", "bigint",
	} {
		fact.Columns = append(fact.Columns, analytics.Column{Name: fmt.Sprintf("c%d", i), Type: kind, Comment: kind})
	}
	report := checked(t, builtStar(t, log, analytics.Config{Facts: []analytics.Fact{fact}}))
	result := resultOf(t, report, "fact_odd.agrees")
	require.Equal(t, analytics.Passed, result.Outcome, result)
	require.EqualValues(t, 12, result.Total)
}

// A check of the user that finds text which PostgreSQL cannot hold does not cost the run.
func TestWhatChecksSayIsKept(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	inGo := func(found analytics.Findings, err error) func(context.Context, pgx.Tx) (analytics.Findings, error) {
		return func(context.Context, pgx.Tx) (analytics.Findings, error) { return found, err }
	}
	star := builtStar(t, log, analytics.Config{Checks: []analytics.Check{
		{Name: "my.text", About: "in Go", Run: inGo(analytics.Findings{Failing: 3, Note: "a\x00b\xffc", Rows: []any{
			"a\x00b\xffc", json.RawMessage("[\"\xff \\ud800 \\uDC00x \\ud83d\\ude00 \\u0000\"]"), `a\u0000b`,
		}}, nil)},
		{Name: "my.error", About: "in Go", Run: inGo(analytics.Findings{}, errors.New("no\x00 answer\xff"))},
	}})
	report := checked(t, star)
	require.Positive(t, report.Run)
	rows, err := log.Pool.Query(t.Context(), `SELECT failing #>> '{}' FROM `+log.Schema()+`.analytics_check_failures WHERE run = $1 ORDER BY n`, report.Run)
	require.NoError(t, err)
	kept, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{"a�b�c", `["� � �x 😀 �"]`, `a\u0000b`}, kept)
	var notes string
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT string_agg(note, '|' ORDER BY check_name DESC) FROM `+log.Schema()+`.analytics_check_results WHERE run = $1 AND check_name ~ '^my'`,
		report.Run).Scan(&notes))
	require.Equal(t, "a�b�c|no� answer�", notes)
}

// Mostly holds at its boundary, for shares that floating point cannot hold.
func TestMostlyAtItsBoundary(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	var checks []analytics.Check
	add := func(name string, mostly float64, failing, total int64) {
		checks = append(checks, analytics.Check{Name: name, About: "in Go", Mostly: mostly, Run: func(context.Context, pgx.Tx) (analytics.Findings, error) {
			return analytics.Findings{Failing: failing, Total: total}, nil
		}})
	}
	for percent := range int64(100) {
		if percent == 0 {
			continue
		}
		mostly := float64(percent) / 100
		add(fmt.Sprintf("at.%d", percent), mostly, 100-percent, 100)
		add(fmt.Sprintf("over.%d", percent), mostly, 101-percent, 100)
	}
	add("at.ten", 0.9, 1, 10)
	add("over.ten", 0.9, 2, 10)
	add("at.billions", 0.999, 9_000_000, 9_000_000_000)
	add("over.billions", 0.999, 9_000_001, 9_000_000_000)
	add("at.all", 1, 0, 3)
	add("over.all", 1, 1, 3)
	report := checked(t, builtStar(t, log, analytics.Config{Checks: checks}))
	for _, c := range checks {
		want := analytics.Passed
		if strings.HasPrefix(c.Name, "over.") {
			want = analytics.Failed
		}
		require.Equal(t, want, resultOf(t, report, c.Name).Outcome, "%s: %g", c.Name, c.Mostly)
	}
}
