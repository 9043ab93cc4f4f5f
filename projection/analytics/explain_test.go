package analytics_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// manyRows fills six months, from January to June 2025: 200 personas of 40 projects.
const manyRows = `
INSERT INTO fact_persona_interactions_v1 (position, timestamp, project_id, persona_id, user_id, interaction_type, duration_seconds)
SELECT 1000000 + n, timestamptz '2025-01-01Z' + n * interval '3 minutes', 'p' || n % 40, 'a' || n % 200, 'u1', 'discussed', 5 FROM generate_series(1, 86000) AS n;
INSERT INTO fact_llm_usage_v1 (position, timestamp, project_id, persona_id, user_id, model, tokens_in, tokens_out, cost, purpose)
SELECT 1000000 + n, timestamptz '2025-01-01Z' + n * interval '3 minutes', 'p' || n % 40, 'a' || n % 200, 'u1', 'm' || n % 4, 100, 50, 0.01, 'response' FROM generate_series(1, 86000) AS n;
INSERT INTO fact_discussion_turns_v1 (position, timestamp, project_id, discussion_id, persona_id, user_id, speaker, is_moderator, kind, words, distinct_words, characters)
SELECT 1000000 + n, timestamptz '2025-01-01Z' + n * interval '3 minutes', 'p' || n % 40, 'discussion-' || n / 30, 'a' || n % 200, 'u1', 'x', false, 'response', 5, 5, 25 FROM generate_series(1, 86000) AS n;
INSERT INTO fact_focus_group_sessions_v1 (position, timestamp, project_id, discussion_id, user_id, invited, planned_questions)
SELECT 1000000 + n, timestamptz '2025-01-01Z' + n * interval '6 minutes', 'p' || n % 40, 'discussion-' || n, 'u1', 3, 2 FROM generate_series(1, 43000) AS n;
INSERT INTO daily_active_personas_v1 (date, project_id, active_personas, total_interactions)
SELECT date '2025-01-01' + n / 200, 'p' || n % 200, 5, 10 FROM generate_series(0, 36000) AS n ON CONFLICT DO NOTHING;
INSERT INTO project_health_scores_v1 (date, project_id, sessions, last_active)
SELECT date '2025-01-01' + n / 200, 'p' || n % 200, 5, '2025-01-01' FROM generate_series(0, 36000) AS n ON CONFLICT DO NOTHING;
INSERT INTO weekly_retention_cohorts_v1 (project_id, member, cohort_week, week_n, cohort_size, active, retention)
SELECT 'p' || p, 'persona', date '2025-01-06' + 7 * w, n, 5, 3, 0.6 FROM generate_series(0, 39) AS p, generate_series(0, 25) AS w, generate_series(0, 26) AS n ON CONFLICT DO NOTHING;
INSERT INTO fact_survey_answers_v1 (position, line, timestamp, project_id, survey_id, persona_id, user_id, question, question_type, choices)
SELECT 1000000 + n, 1, timestamptz '2025-01-01Z' + n * interval '3 minutes', 'p' || n % 40, 's' || n % 500, 'a' || n % 200, 'u1', 'Which?', 'single_choice', '{red}' FROM generate_series(1, 86000) AS n;
INSERT INTO daily_llm_costs_v1 (date, project_id, model, calls, tokens_in, tokens_out, cost)
SELECT date '2025-01-01' + n / 200, 'p' || n % 200, 'm', 5, 5, 5, 1 FROM generate_series(0, 36000) AS n ON CONFLICT DO NOTHING;
INSERT INTO focus_group_effectiveness_v1 (date, project_id, sessions, completed, questions, responses, followups)
SELECT date '2025-01-01' + n / 200, 'p' || n % 200, 5, 5, 5, 5, 1 FROM generate_series(0, 36000) AS n ON CONFLICT DO NOTHING`

// manyLog has six months of facts.
func manyLog(t testing.TB) *eventstoretest.Log {
	t.Helper()
	log := newLog(t)
	appendWorld(t, log)
	for month := range 6 { // each fact has its partitions
		at := time.Date(2025, time.Month(1+month), 15, 0, 0, 0, 0, time.UTC)
		appendDiscussion(t, log, eventstore.StreamID(fmt.Sprintf("discussion-of-month-%d", month)), at, "p1", true)
		appendAt(t, log, focusgroup.SurveyStream(fmt.Sprintf("month-%d", month)), at, focusgroup.SurveyCompleted{
			SurveyID: "s1", ProjectID: "p1", PersonaID: "a1", Answers: []focusgroup.SurveyAnswer{{Question: "Why?", Type: focusgroup.OpenText, Text: "so"}},
		})
	}
	builtStar(t, log, analytics.Config{})
	tamper(t, log, strings.Split(manyRows, ";")...)
	for _, insert := range strings.Split(manyRows, "INSERT INTO ")[1:] {
		_, err := log.Pool.Exec(t.Context(), fmt.Sprintf(`ANALYZE %s.%s`, log.Schema(), strings.Fields(insert)[0]))
		require.NoError(t, err)
	}
	return log
}

// planOf explains a query, as a reader asks it.
func planOf(t testing.TB, reader *analytics.Reader, sql string) (plan string) {
	t.Helper()
	require.NoError(t, reader.Query(t.Context(), func(tx pgx.Tx, _ analytics.Fresh) error {
		rows, err := tx.Query(t.Context(), `EXPLAIN (COSTS OFF) `+sql, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return err
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		plan = strings.Join(lines, "\n")
		return err
	}))
	return plan
}

// What a dashboard asks goes by indexes, in the partitions of its range alone: day for the index, timestamp for the partitions.
func TestDashboardQueriesUseIndexes(t *testing.T) {
	t.Parallel()
	log := manyLog(t)
	reader := openReader(t.Context(), t, log.Pool.Config(), analytics.ReaderConfig{Schema: log.Schema()})
	t.Run("what the documentation shows", func(t *testing.T) { exampleQueriesUseIndexes(t, reader) })
	const march = ` AND day BETWEEN '2025-03-03' AND '2025-03-09' AND timestamp >= '2025-03-02Z' AND timestamp < '2025-03-11Z'`
	for name, c := range map[string]struct {
		sql, partition string // whose months are pruned
	}{
		"daily active personas of a project in a range": {`SELECT * FROM {{daily_active_personas}} WHERE project_id = 'p1' AND date BETWEEN '2025-03-03' AND '2025-03-09' ORDER BY date`, ""},
		"health of a project in a range":                {`SELECT date, score FROM {{project_health_scores}} WHERE project_id = 'p1' AND date BETWEEN '2025-03-03' AND '2025-03-09' ORDER BY date`, ""},
		"cohorts of a project":                          {`SELECT * FROM {{weekly_retention_cohorts}} WHERE project_id = 'p1' AND member = 'persona' ORDER BY cohort_week, week_n`, ""},
		"interactions of a project in a range":          {`SELECT day, count(*) FROM {{fact_persona_interactions}} WHERE project_id = 'p1'` + march + ` GROUP BY 1`, "fact_persona_interactions"},
		"facts of a persona in a range":                 {`SELECT * FROM {{fact_persona_interactions}} WHERE persona_id = 'a7'` + march, "fact_persona_interactions"},
		"costs of models in a range":                    {`SELECT model, sum(cost) FROM {{fact_llm_usage}} WHERE model IN ('m1', 'm2')` + march + ` GROUP BY 1`, "fact_llm_usage"},
		"costs in a range":                              {`SELECT model, sum(cost) FROM {{fact_llm_usage}} WHERE true` + march + ` GROUP BY 1`, "fact_llm_usage"},
		"sessions of a project in a range":              {`SELECT * FROM {{fact_focus_group_sessions}} WHERE project_id = 'p1'` + march + ` ORDER BY timestamp`, "fact_focus_group_sessions"},
		"turns of a discussion":                         {`SELECT * FROM {{fact_discussion_turns}} WHERE discussion_id = 'discussion-1000'` + march + ` ORDER BY position`, "fact_discussion_turns"},
		"personas as they were": {`SELECT h.occupation, count(*) FROM {{fact_persona_interactions}} f JOIN {{dim_persona_history}} h ON h.persona_id = f.persona_id
    AND f.position >= h.from_position AND f.position < h.to_position WHERE f.project_id = 'p1'` + march + ` GROUP BY 1`, "fact_persona_interactions"},
	} {
		t.Run(name, func(t *testing.T) {
			plan := planOf(t, reader, strings.NewReplacer("{{", "", "}}", "").Replace(c.sql))
			require.NotRegexp(t, `Seq Scan on \S*(fact_|daily_|weekly_|project_health)`, plan)
			require.Regexp(t, `Index|Bitmap`, plan)
			if c.partition != "" {
				require.Contains(t, plan, c.partition+"_v1_2025_03")
				require.NotRegexp(t, c.partition+`_v1_2025_0[12456]`, plan)
			}
		})
	}
}

// exampleQueriesUseIndexes: they read no fact outside of its months, and no aggregate from end to end.
func exampleQueriesUseIndexes(t *testing.T, reader *analytics.Reader) {
	t.Helper()
	facts := 0
	for _, q := range exampleQueries() {
		plan := planOf(t, reader, q.sql)
		require.NotRegexp(t, `Seq Scan on \S*(daily_|weekly_|project_health|focus_group_effectiveness)`, plan, q.title)
		require.NotRegexp(t, `fact_\w+_v1_2025_0[12456]`, plan, q.title)
		if strings.Contains(q.sql, "fact_") {
			facts++
			require.Regexp(t, `fact_\w+_v1_2025_03`, plan, q.title)
		}
	}
	require.Equal(t, 4, facts)
}
