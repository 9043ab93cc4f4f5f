package analytics_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// byOutcome are the names of the checks with an outcome, sorted.
func byOutcome(report analytics.Report, outcome analytics.Outcome) []string {
	names := []string{}
	for _, r := range report.Results {
		if r.Outcome == outcome {
			names = append(names, r.Check)
		}
	}
	slices.Sort(names)
	return names
}

func resultOf(t testing.TB, report analytics.Report, name string) analytics.Result {
	t.Helper()
	at := slices.IndexFunc(report.Results, func(r analytics.Result) bool { return r.Check == name })
	require.GreaterOrEqual(t, at, 0, "no check %s", name)
	return report.Results[at]
}

func checked(t testing.TB, star *analytics.Star) analytics.Report {
	t.Helper()
	report, err := star.Check(t.Context())
	require.NoError(t, err)
	return report
}

func TestAHealthyStarPassesItsChecks(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	star := builtStar(t, log, analytics.Config{TimeZone: "Europe/Warsaw"})
	report := checked(t, star)
	require.Empty(t, byOutcome(report, analytics.Failed), report)
	require.Empty(t, byOutcome(report, analytics.Errored), report)
	require.True(t, report.OK())
	settled, err := log.Settled(t.Context())
	require.NoError(t, err)
	require.Equal(t, settled, report.UpTo)
	for _, name := range []string{
		"star.freshness", "fact_persona_interactions.completeness", "fact_survey_answers.completeness", "fact_focus_group_sessions.completeness",
		"fact_llm_usage.orphans", "fact_survey_answers.unique", "fact_discussion_turns.future", "fact_discussion_turns.duration",
		"dim_users.placeholders", "dim_persona_history.unbroken", "fact_focus_group_sessions.one_a_discussion", "fact_survey_answers.values",
		"daily_active_personas.agrees", "weekly_active_users.agrees", "daily_llm_costs.agrees", "focus_group_effectiveness.agrees",
		"project_health_scores.agrees", "weekly_retention_cohorts.agrees", "persona_diversity.agrees", "persona_evenness.agrees",
	} {
		require.Equal(t, analytics.Passed, resultOf(t, report, name).Outcome, name)
	}
	require.Contains(t, byOutcome(report, analytics.Skipped), "fact_llm_usage.rows", "nothing happened in these weeks")
	require.EqualValues(t, 18+7, resultOf(t, report, "fact_persona_interactions.completeness").Total-resultOf(t, report, "fact_survey_answers.completeness").Total,
		"18 turns, 6 personas, an edit, and the surveys apart")
	require.Contains(t, report.String(), "0 failed, 0 errored")

	var runs, results int
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT count(DISTINCT run), count(*) FROM `+log.Schema()+`.analytics_check_results WHERE run = $1`, report.Run).Scan(&runs, &results))
	require.Equal(t, 1, runs)
	require.Len(t, report.Results, results)
	require.Equal(t, 1, runs)

	// The history ends after 90 days.
	tamper(t, log, `UPDATE analytics_check_runs_v1 SET started_at = now() - interval '91 days'`)
	again := checked(t, star)
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT min(run), count(*) FROM `+log.Schema()+`.analytics_check_runs`).Scan(&runs, &results))
	require.EqualValues(t, again.Run, runs)
	require.Equal(t, 1, results)
}

// Runs take the windows that are older than the newest one in turn, and the note says which.
func TestTheWindowsOfCompleteness(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	star := builtStar(t, log, analytics.Config{CheckWindow: 12})
	tamper(t, log, `DELETE FROM fact_discussion_turns_v1 WHERE discussion_id = 'discussion-1'`) // positions 13 to 18
	for _, want := range []struct {
		older   string
		failing int64
	}{{"13 to 24", 6}, {"1 to 12", 0}, {"13 to 24", 6}} {
		result := resultOf(t, checked(t, star), "fact_discussion_turns.completeness")
		require.Equal(t, "positions 25 to 36 and "+want.older, result.Note)
		require.Equal(t, want.failing, result.Failing)
	}
	whole, err := analytics.New(log.Store, analytics.Config{})
	require.NoError(t, err)
	result := resultOf(t, checked(t, whole), "fact_discussion_turns.completeness")
	require.Equal(t, analytics.Failed, result.Outcome)
	require.EqualValues(t, 6, result.Failing)
	require.EqualValues(t, 18, result.Total)
}

// Its projects and users have no events of their own: they stay placeholders, which is a warning.
func TestChecksOfARealRecording(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	importCorpus(t, log, "qmsum_committee_val.ndjson.gz")
	report := checked(t, builtStar(t, log, analytics.Config{}))
	require.True(t, report.OK(), report)
	require.Positive(t, resultOf(t, report, "fact_discussion_turns.completeness").Total)
}

// Each defect is put in behind the constraints' back, seen by its check, mostly alone, and mended.
func TestChecksFindWhatIsWrongInTheTables(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	star := builtStar(t, log, analytics.Config{})
	const latest = `(SELECT max(position) FROM fact_llm_usage_v1)`
	also := map[string][]string{"fact_survey_answers.unique": {"fact_survey_answers.agrees", "fact_survey_answers.completeness"}}
	for _, c := range []struct {
		check, breaks, mends string
		severity             analytics.Severity
		row                  string
	}{
		{
			"fact_focus_group_sessions.orphans", `UPDATE fact_focus_group_sessions_v1 SET user_id = 'nobody' WHERE discussion_id = 'discussion-2'`,
			`UPDATE fact_focus_group_sessions_v1 SET user_id = 'u1' WHERE user_id = 'nobody'`, analytics.SeverityError, `"to_id":"nobody"`,
		},
		{ // Guarantee A1: a fact is exactly what its Rows makes
			"fact_discussion_turns.agrees", `UPDATE fact_discussion_turns_v1 SET speaker = 'nobody' WHERE position = 13`, `UPDATE fact_discussion_turns_v1 SET speaker = 'a1' WHERE position = 13`,
			analytics.SeverityError, `{"position":13,"column":"speaker","stored":"nobody","made":"a1"}`,
		},
		{
			"fact_survey_answers.agrees", `UPDATE fact_survey_answers_v1 SET choices = '{blue,red}' WHERE position = 35 AND line = 2`,
			`UPDATE fact_survey_answers_v1 SET choices = '{red,blue}' WHERE position = 35 AND line = 2`, analytics.SeverityError, `"stored":"{blue,red}","made":"{red,blue}"`,
		},
		{
			"fact_discussion_turns.completeness", `INSERT INTO fact_discussion_turns_v1 (position, timestamp, discussion_id, speaker, is_moderator, kind, words, distinct_words, characters)
VALUES (1, '2025-03-03', 'discussion-1', 'nobody', false, 'response', 1, 1, 1)`,
			`DELETE FROM fact_discussion_turns_v1 WHERE position = 1`, analytics.SeverityError, `{"position":1,"want":0,"have":1,"reason":"the log has no such event there"}`,
		},
		{
			"fact_survey_answers.completeness", `INSERT INTO fact_survey_answers_v1 (position, line, timestamp, survey_id, question, question_type)
VALUES (1000, 1, '2025-03-03', 's1', 'Which one?', 'open_text')`,
			`DELETE FROM fact_survey_answers_v1 WHERE position = 1000`, analytics.SeverityError, `"position":1000`,
		},
		{
			"fact_llm_usage.completeness", `CREATE TABLE lost AS SELECT * FROM fact_llm_usage_v1 WHERE position = ` + latest + `; DELETE FROM fact_llm_usage_v1 WHERE position IN (SELECT position FROM lost);
INSERT INTO analytics_dirty_v1 SELECT timestamp, project_id FROM lost`,
			`INSERT INTO fact_llm_usage_v1 (position, timestamp, project_id, persona_id, user_id, model, tokens_in, tokens_out, cost, purpose)
SELECT position, timestamp, project_id, persona_id, user_id, model, tokens_in, tokens_out, cost, purpose FROM lost; DROP TABLE lost; DELETE FROM analytics_dirty_v1`,
			analytics.SeverityError, `"want":1,"have":0`,
		},
		{
			"fact_survey_answers.unique", `INSERT INTO fact_survey_answers_v1 (position, line, timestamp, survey_id, question, question_type)
SELECT position, line, timestamp + interval '1 second', survey_id, question, 'open_text' FROM fact_survey_answers_v1 ORDER BY position DESC, line DESC LIMIT 1`,
			`DELETE FROM fact_survey_answers_v1 WHERE extract(second FROM timestamp) = 1`, analytics.SeverityError, `"rows":2`,
		},
		{"dim_users.placeholders", `INSERT INTO dim_users_v1 (user_id) VALUES ('ghost')`, `DELETE FROM dim_users_v1 WHERE user_id = 'ghost'`, analytics.SeverityWarn, "ghost"},
		{
			"dim_persona_history.unbroken", `UPDATE dim_persona_history_v1 SET to_position = to_position - 1 WHERE persona_id = 'a1' AND valid_to IS NOT NULL`,
			`UPDATE dim_persona_history_v1 SET to_position = to_position + 1 WHERE persona_id = 'a1' AND valid_to IS NOT NULL`, analytics.SeverityError, `"persona_id":"a1"`,
		},
		{
			"daily_active_personas.agrees", `UPDATE daily_active_personas_v1 SET total_interactions = total_interactions + 1 WHERE date = '2025-03-04'`,
			`UPDATE daily_active_personas_v1 SET total_interactions = total_interactions - 1 WHERE date = '2025-03-04'`, analytics.SeverityError, `"total_interactions":8`,
		},
		{
			"weekly_active_users.agrees", `DELETE FROM weekly_active_users_v1 WHERE week = '2025-03-10' AND project_id = 'p2'`,
			`INSERT INTO weekly_active_users_v1 (week, project_id, active_users, total_interactions) VALUES ('2025-03-10', 'p2', 1, 6)`, analytics.SeverityError, `"stored":null`,
		},
		{
			"persona_evenness.agrees", `UPDATE persona_evenness_v1 SET evenness = evenness * 0.99 WHERE project_id = 'p1' AND attribute = 'gender'`,
			`UPDATE persona_evenness_v1 SET evenness = evenness / 0.99 WHERE project_id = 'p1' AND attribute = 'gender'`, analytics.SeverityError, `"gender"`,
		},
		{
			"weekly_retention_cohorts.agrees", `UPDATE weekly_retention_cohorts_v1 SET active = active + 1 WHERE project_id = 'p1' AND member = 'user' AND cohort_week = '2025-03-03' AND week_n = 1`,
			`UPDATE weekly_retention_cohorts_v1 SET active = active - 1 WHERE project_id = 'p1' AND member = 'user' AND cohort_week = '2025-03-03' AND week_n = 1`, analytics.SeverityError, `"week_n":1`,
		},
		{
			"fact_focus_group_sessions.times", `UPDATE fact_focus_group_sessions_v1 SET ended_at = timestamp - interval '1 hour' WHERE discussion_id = 'discussion-2'`,
			`UPDATE fact_focus_group_sessions_v1 SET ended_at = NULL WHERE discussion_id = 'discussion-2'`, analytics.SeverityWarn, `"discussion-2"`,
		},
	} {
		tamper(t, log, c.breaks)
		report := checked(t, star)
		require.Equal(t, append(also[c.check], c.check), byOutcome(report, analytics.Failed), report)
		require.Empty(t, byOutcome(report, analytics.Errored), report)
		result := resultOf(t, report, c.check)
		require.Equal(t, c.severity, result.Severity)
		require.EqualValues(t, 1, result.Failing)
		require.Equal(t, c.severity != analytics.SeverityError, report.OK())
		require.Contains(t, string(result.Rows[0]), c.row)
		require.Contains(t, report.String(), c.check+" ("+string(c.severity)+"): 1")
		var kept string
		require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT string_agg(check_name || n, ',') FROM `+log.Schema()+`.analytics_check_failures WHERE run = $1 AND check_name <> ALL (coalesce($2::text[], '{}'))`,
			report.Run, also[c.check]).Scan(&kept))
		require.Equal(t, c.check+"1", kept, "the failing row is kept")
		tamper(t, log, c.mends)
	}
	require.Empty(t, byOutcome(checked(t, star), analytics.Failed))
}

// What is wrong in the events themselves comes through the projection, and shows.
func TestChecksFindWhatIsWrongInTheEvents(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	now := time.Now()
	odd := smallPersona(0)
	odd.Age = 200
	appendAt(t, log, focusgroup.PersonaStream("a1"), smallWorld().AddDate(0, 0, 10), focusgroup.PersonaEdited{
		PersonaID: "a1", ProjectID: "p1", UserID: "u1", Name: "Anna", Attributes: odd.Attributes, DurationSeconds: 3601,
	})
	appendDiscussion(t, log, "discussion-1", smallWorld().AddDate(0, 0, 11), "p1", true)
	appendAt(t, log, focusgroup.PersonaStream("a2"), smallWorld().AddDate(0, 0, 10), focusgroup.PersonaEdited{
		PersonaID: "a2", ProjectID: "p1", UserID: "u1", Name: "Bert", Attributes: smallPersona(1).Attributes, Usage: focusgroup.Usage{TokensIn: 7, CostUSD: 0.5},
	})
	appendAt(t, log, "discussion-2", smallWorld(), focusgroup.DiscussionEnded{ProjectID: "p1", UserID: "u1", DurationSeconds: 600})
	rating := 6.0
	appendAt(t, log, focusgroup.SurveyStream("s2"), now.AddDate(0, 0, 2), focusgroup.SurveyCompleted{
		SurveyID: "s2", ProjectID: "p1", UserID: "u1", PersonaID: "a1", DurationSeconds: 90,
		Answers: []focusgroup.SurveyAnswer{{Question: "How good?", Type: focusgroup.Rating, Rating: &rating, ScaleMax: 5}},
	})
	appendAt(t, log, focusgroup.ProjectStream("p1"), now, focusgroup.ProjectCreated{ProjectID: "p1", UserID: "u1", Name: "Project Ada", Industry: "food"})
	star := builtStar(t, log, analytics.Config{})
	report := checked(t, star)
	require.Equal(t, []string{
		"dim_personas.values", "fact_focus_group_sessions.one_a_discussion", "fact_focus_group_sessions.times", "fact_llm_usage.values", "fact_persona_interactions.duration", "fact_persona_interactions.future",
		"fact_survey_answers.future", "fact_survey_answers.values",
	}, byOutcome(report, analytics.Failed), report)
	require.Empty(t, byOutcome(report, analytics.Errored), report)
	for name, text := range map[string]string{
		"dim_personas.values": `"age":200`, "fact_focus_group_sessions.one_a_discussion": `"discussion_id":"discussion-1"`,
		"fact_focus_group_sessions.times": `"discussion_id":"discussion-2"`, "fact_llm_usage.values": `"tokens_in":7`,
		"fact_persona_interactions.duration": `"duration_seconds":3601`, "fact_survey_answers.values": `"rating":6`,
	} {
		require.Contains(t, string(resultOf(t, report, name).Rows[0]), text)
	}
	for _, name := range []string{"fact_focus_group_sessions.one_a_discussion", "fact_focus_group_sessions.times", "fact_llm_usage.values"} {
		require.Equal(t, analytics.SeverityWarn, resultOf(t, report, name).Severity, "%s: the grain allows it", name)
	}
}

// Guarantee P5: what is parked has no facts, and is counted apart.
func TestChecksCountParkedEventsApart(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	seconds := analytics.Fact{
		Name: "fact_long_turns", Grain: "A row a turn of at least 5 seconds.", Types: []string{focusgroup.TypeResponse},
		Columns: []analytics.Column{{Name: "seconds", Type: "double precision NOT NULL", Comment: "Seconds it took."}},
		Rows: func(e eventstore.Recorded) ([]analytics.Row, error) {
			turn := e.Data.(focusgroup.Response)
			if turn.DurationSeconds < 5 {
				return nil, nil
			}
			if e.StreamID == "discussion-3" {
				return nil, errors.New("poison")
			}
			return []analytics.Row{{Project: turn.ProjectID, Values: []any{turn.DurationSeconds}}}, nil
		},
	}
	star := builtStar(t, log, analytics.Config{Facts: []analytics.Fact{seconds}})
	report := checked(t, star)
	require.Equal(t, []string{"star.parked"}, byOutcome(report, analytics.Failed), report)
	require.True(t, report.OK(), "a warning")
	require.Contains(t, string(resultOf(t, report, "star.parked").Rows[0]), "poison")
	require.Empty(t, byOutcome(report, analytics.Errored), report)
	result := resultOf(t, report, "fact_long_turns.completeness")
	require.Equal(t, analytics.Passed, result.Outcome)
	require.Regexp(t, `; [1-9][0-9]* parked and 0 skipped`, result.Note)
	require.Less(t, result.Total, int64(12), "of 12 responses some are parked")
	require.Equal(t, analytics.Passed, resultOf(t, report, "fact_long_turns.orphans").Outcome, "a user's fact has checks, too")

	tamper(t, log, `INSERT INTO fact_long_turns_v1 (position, timestamp, seconds) SELECT min(position), '2025-03-11', 5 FROM projection_parked WHERE error <> ''`)
	result = resultOf(t, checked(t, star), "fact_long_turns.completeness")
	require.Equal(t, analytics.Failed, result.Outcome)
	require.Contains(t, string(result.Rows[0]), `"want":0,"have":1,"reason":"its event is parked"`)
}

func TestFreshness(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	star := builtStar(t, log, analytics.Config{})
	last := appendAt(t, log, focusgroup.ProjectStream("p9"), smallWorld(), focusgroup.ProjectCreated{ProjectID: "p9", UserID: "u1"})
	require.Empty(t, byOutcome(checked(t, star), analytics.Failed), "it waits for less than five minutes")
	tamper(t, log, `UPDATE events SET recorded_at = recorded_at - interval '6 minutes' WHERE position = `+fmt.Sprint(last.Position()))
	report := checked(t, star)
	require.Equal(t, []string{"star.freshness"}, byOutcome(report, analytics.Failed), report)
	require.Contains(t, string(resultOf(t, report, "star.freshness").Rows[0]), fmt.Sprintf(`"position":%d`, last.Position()))
	runUntilSettled(t, log, star)
	require.Empty(t, byOutcome(checked(t, star), analytics.Failed))
}

// Yesterday's weekday had rows in the four weeks before, yesterday has none; and the newest seven days know no durations.
func TestTrends(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	now := time.Now().UTC()
	for week := 1; week <= 4; week++ {
		for back := range 2 { // midnight may pass meanwhile
			at := time.Date(now.Year(), now.Month(), now.Day(), 12, 0, 0, 0, time.UTC).AddDate(0, 0, -7*week-back)
			payloads := make([]any, 30)
			for i := range payloads {
				seconds := 5.0
				if week == 1 {
					seconds = 0
				}
				payloads[i] = focusgroup.Response{ProjectID: "p1", UserID: "u1", PersonaID: "a1", Text: "yes", Question: "Is it?", DurationSeconds: seconds}
			}
			appendAt(t, log, eventstore.StreamID(fmt.Sprintf("discussion-%d-%d", week, back)), at, payloads...)
		}
	}
	star := builtStar(t, log, analytics.Config{})
	report := checked(t, star)
	require.Equal(t, []string{
		"fact_discussion_turns.nulls", "fact_discussion_turns.rows", "fact_persona_interactions.nulls", "fact_persona_interactions.rows",
	}, byOutcome(report, analytics.Failed), report)
	require.Empty(t, byOutcome(report, analytics.Errored), report)
	require.True(t, report.OK(), "they are warnings")
	require.Contains(t, string(resultOf(t, report, "fact_discussion_turns.nulls").Rows[0]), `"of_column":"duration_seconds"`)
	require.Contains(t, string(resultOf(t, report, "fact_discussion_turns.rows").Rows[0]), `"rows":0`)

	// An event that is dated far ahead is not the newest.
	appendAt(t, log, "discussion-ahead", now.AddDate(70, 0, 0), focusgroup.Response{ProjectID: "p1", UserID: "u1", PersonaID: "a1", Text: "yes", Question: "Is it?"})
	runUntilSettled(t, log, star)
	require.Subset(t, byOutcome(checked(t, star), analytics.Failed), []string{"fact_discussion_turns.future", "fact_discussion_turns.nulls", "fact_persona_interactions.nulls"})
}

func TestChecksOfTheUser(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	const short = `SELECT position, words FROM {{fact_discussion_turns}} WHERE words = 1`
	const turns = `SELECT count(*) FROM {{fact_discussion_turns}}`
	inGo := func(found analytics.Findings, err error) func(context.Context, pgx.Tx) (analytics.Findings, error) {
		return func(context.Context, pgx.Tx) (analytics.Findings, error) { return found, err }
	}
	config := analytics.Config{Checks: []analytics.Check{
		{Name: "my.errors", About: "short", SQL: short},
		{Name: "my.warnings", About: "short", SQL: short, Warn: 1, Error: 7},
		{Name: "my.few", About: "short", SQL: short, Warn: 7},
		{Name: "my.share", About: "short", SQL: short, Total: turns, Mostly: 0.6},
		{Name: "my.share_missed", About: "short", SQL: short, Total: turns, Mostly: 0.7},
		{Name: "my.log", About: "none", SQL: `SELECT FROM {{schema}}.events WHERE event_type = 'unheard of'`},
		{Name: "my.many", About: "fifty", SQL: `SELECT generate_series(1, 50) AS n`},
		{Name: "my.mistake", About: "x", SQL: `SELECT nothing FROM {{fact_discussion_turns}}`},
		{Name: "my.writes", About: "x", SQL: `WITH gone AS (DELETE FROM {{dim_users}} RETURNING *) SELECT * FROM gone`},
		{Name: "my.slow", About: "x", SQL: `SELECT pg_sleep(100)`, Timeout: 50 * time.Millisecond},
		{Name: "my.go", About: "in Go", Run: inGo(analytics.Findings{Failing: 2, Total: 5, Rows: []any{map[string]int{"n": 1}}, Note: "noted"}, nil)},
		{Name: "my.go_error", About: "in Go", Run: inGo(analytics.Findings{}, errors.New("no answer"))},
		{Name: "my.go_skips", About: "in Go", Run: inGo(analytics.Findings{}, fmt.Errorf("%w: not on Sundays", analytics.ErrSkip))},
		{Name: "my.panic", About: "in Go", Run: func(context.Context, pgx.Tx) (analytics.Findings, error) { panic("oops") }},
		{Name: "fact_discussion_turns.duration", About: "longer than 5 s", SQL: `SELECT position FROM {{fact_discussion_turns}} WHERE duration_seconds > 5`, Warn: 1},
		{Name: "fact_discussion_turns.future", Warn: 1},
	}}
	star := builtStar(t, log, config)
	report := checked(t, star)
	require.Equal(t, []string{"fact_discussion_turns.duration", "my.errors", "my.go", "my.many", "my.share_missed", "my.warnings"}, byOutcome(report, analytics.Failed), report)
	require.Equal(t, []string{"my.go_error", "my.mistake", "my.panic", "my.slow", "my.writes"}, byOutcome(report, analytics.Errored), report)
	for name, severity := range map[string]analytics.Severity{"my.errors": analytics.SeverityError, "my.warnings": analytics.SeverityWarn, "my.go": analytics.SeverityError} {
		require.Equal(t, severity, resultOf(t, report, name).Severity, name)
	}
	require.EqualValues(t, 6, resultOf(t, report, "my.errors").Failing)
	require.Len(t, resultOf(t, report, "my.errors").Rows, 6)
	require.EqualValues(t, 50, resultOf(t, report, "my.many").Failing)
	require.Len(t, resultOf(t, report, "my.many").Rows, 20, "the first ones are kept")
	require.EqualValues(t, 18, resultOf(t, report, "my.share").Total)
	require.Equal(t, "skipped: not on Sundays", resultOf(t, report, "my.go_skips").Note)
	require.Contains(t, resultOf(t, report, "my.slow").Note, "statement timeout")
	require.Contains(t, resultOf(t, report, "my.panic").Note, "oops")
	require.Contains(t, resultOf(t, report, "my.go").String(), "2 of 5: in Go: noted")
	require.False(t, report.OK())
}

func TestChecksThatCannotBe(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	const sql = `SELECT 1`
	for name, c := range map[string]analytics.Check{
		"no name":                {About: "x", SQL: sql},
		"no question":            {Name: "mine", About: "x"},
		"no meaning":             {Name: "mine", SQL: sql},
		"two questions":          {Name: "mine", About: "x", SQL: sql, Run: func(context.Context, pgx.Tx) (analytics.Findings, error) { return analytics.Findings{}, nil }},
		"a share without total":  {Name: "mine", About: "x", SQL: sql, Mostly: 0.5},
		"a share of more":        {Name: "mine", About: "x", SQL: sql, Total: sql, Mostly: 1.5},
		"a share of uncounted":   {Name: "star.freshness", Mostly: 0.5},
		"thresholds and a total": {Name: "star.freshness", Total: sql},
	} {
		_, err := analytics.New(log.Store, analytics.Config{Checks: []analytics.Check{c}})
		require.ErrorIs(t, err, eventstore.ErrInvalid, name)
	}
	star, err := analytics.New(log.Store, analytics.Config{})
	require.NoError(t, err)
	_, err = star.Check(t.Context())
	require.ErrorIs(t, err, projection.ErrNotMigrated)
}
