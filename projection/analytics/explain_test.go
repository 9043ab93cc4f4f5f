package analytics_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

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
SELECT 'p' || p, 'persona', date '2025-01-06' + 7 * w, n, 5, 3, 0.6 FROM generate_series(0, 39) AS p, generate_series(0, 25) AS w, generate_series(0, 26) AS n ON CONFLICT DO NOTHING`

// What a dashboard asks goes by indexes, in the partitions of its range alone: day for the index, timestamp for the partitions.
func TestDashboardQueriesUseIndexes(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	for month := range 6 {
		at := time.Date(2025, time.Month(1+month), 15, 0, 0, 0, 0, time.UTC)
		appendAt(t, log, focusgroup.PersonaStream("a1"), at, focusgroup.PersonaEdited{PersonaID: "a1", ProjectID: "p1", UserID: "u1", Name: "Anna"})
	}
	builtStar(t, log, analytics.Config{})
	tamper(t, log, strings.Split(manyRows, ";")...)
	tables := []string{"fact_persona_interactions", "fact_llm_usage", "fact_discussion_turns", "fact_focus_group_sessions", "daily_active_personas", "project_health_scores", "weekly_retention_cohorts"}
	for _, table := range tables {
		_, err := log.Pool.Exec(t.Context(), fmt.Sprintf(`ANALYZE %s.%s_v1`, log.Schema(), table))
		require.NoError(t, err)
	}

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
			sql := strings.NewReplacer("{{", log.Schema()+".", "}}", "").Replace(c.sql)
			rows, err := log.Pool.Query(t.Context(), `EXPLAIN (COSTS OFF) `+sql, pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err)
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			plan := strings.Join(lines, "\n")
			require.NotRegexp(t, `Seq Scan on \S*(fact_|daily_|weekly_|project_health)`, plan)
			require.Regexp(t, `Index|Bitmap`, plan)
			if c.partition != "" {
				require.Contains(t, plan, c.partition+"_v1_2025_03")
				require.NotRegexp(t, c.partition+`_v1_2025_0[12456]`, plan)
			}
		})
	}
}
