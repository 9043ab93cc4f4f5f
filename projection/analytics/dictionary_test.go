package analytics_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// requireFile compares a text with a file of the docs, or writes it there with HINDSIGHT_UPDATE=1.
func requireFile(t testing.TB, name, text string) {
	t.Helper()
	if os.Getenv("HINDSIGHT_UPDATE") == "1" {
		require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
	}
	want, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, string(want), text, "%s is out of date: HINDSIGHT_UPDATE=1 go test ./projection/analytics -run '%s'", name, t.Name())
}

func TestDictionary(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	star, err := analytics.New(log.Store, analytics.Config{})
	require.NoError(t, err)
	_, err = star.Dictionary(t.Context())
	require.ErrorIs(t, err, projection.ErrNotMigrated)
	runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{star}})
	require.NoError(t, err)
	require.NoError(t, runner.Migrate(t.Context()))
	text, err := star.Dictionary(t.Context())
	require.NoError(t, err)

	rows, err := log.Pool.Query(t.Context(), `
SELECT c.relname || coalesce('.' || a.attname, '')
  FROM pg_class c LEFT JOIN LATERAL (SELECT attname, attnum FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped UNION ALL SELECT NULL, 0) AS a ON true
 WHERE c.relnamespace = $1::text::regnamespace AND c.relkind IN ('r', 'p') AND c.relname ~ '_v1$'
   AND coalesce(CASE WHEN a.attnum = 0 THEN obj_description(c.oid, 'pg_class') ELSE col_description(c.oid, a.attnum) END, '') = ''`, log.Schema())
	require.NoError(t, err)
	silent, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Empty(t, silent, "each table and column has a comment")

	for _, table := range star.Spec().Tables {
		require.Contains(t, text, "\n## "+table.Name+"\n")
	}
	require.Contains(t, text, "dim_personas ||--o{ fact_persona_interactions : persona_id")
	requireFile(t, "DICTIONARY.md", "# Dictionary of the star\nRead from the database by `Star.Dictionary`.\n\n"+text)
}

type exampleQuery struct{ title, sql string }

// exampleQueries are what QUERIES.md shows.
func exampleQueries() []exampleQuery {
	return []exampleQuery{
		{"Active personas of a project, by day", `SELECT date, active_personas, total_interactions, round(avg_duration_seconds::numeric, 1) AS avg_seconds
  FROM daily_active_personas
 WHERE project_id = 'p1' AND date BETWEEN '2025-03-01' AND '2025-03-31'
 ORDER BY date`},
		{"Retention of personas: which share of a week's new ones came back after N weeks", `SELECT cohort_week, cohort_size,
       max(retention) FILTER (WHERE week_n = 0) AS week_0, max(retention) FILTER (WHERE week_n = 1) AS week_1, max(retention) FILTER (WHERE week_n = 2) AS week_2
  FROM weekly_retention_cohorts
 WHERE project_id = 'p1' AND member = 'persona'
 GROUP BY 1, 2 ORDER BY 1`},
		{"Health of all projects on a day, with what it is made of", `SELECT p.name, h.sessions, h.completion, round(h.engagement::numeric, 2) AS engagement, h.last_active, round(h.recency::numeric, 2) AS recency,
       round(h.score::numeric, 2) AS score
  FROM project_health_scores h JOIN dim_projects p USING (project_id)
 WHERE h.date = '2025-03-20'
 ORDER BY h.score DESC`},
		{"Tokens and cost of each model, by month", `SELECT date_trunc('month', date)::date AS month, model, sum(calls) AS calls, sum(tokens_in) AS tokens_in, sum(tokens_out) AS tokens_out,
       round(sum(cost)::numeric, 2) AS us_dollars
  FROM daily_llm_costs
 GROUP BY 1, 2 ORDER BY 1, 2`},
		{"How well focus groups work, by project", `SELECT project_id, sum(sessions) AS sessions, sum(completed) AS completed, sum(responses) AS responses,
       round(avg(words_per_response)::numeric, 2) AS words_per_response, round(avg(response_quality)::numeric, 3) AS response_quality
  FROM focus_group_effectiveness
 GROUP BY 1 ORDER BY 1`},
		{"Talk time in a discussion", `SELECT speaker, count(*) AS turns, sum(words) AS words, sum(duration_seconds) AS seconds,
       round((sum(duration_seconds) / sum(sum(duration_seconds)) OVER ())::numeric, 2) AS share
  FROM fact_discussion_turns
 WHERE discussion_id = 'discussion-1' AND NOT is_moderator
 GROUP BY 1 ORDER BY seconds DESC`},
		{"What a survey's choices were", `SELECT question, choice, count(*) AS chosen
  FROM fact_survey_answers CROSS JOIN LATERAL unnest(choices) AS choice
 WHERE survey_id = 's1'
 GROUP BY 1, 2 ORDER BY 1, 2`},
		{"Interactions by occupation, as it was then and as it is now", `SELECT h.occupation AS as_it_was, p.occupation AS as_it_is, count(*) AS interactions
  FROM fact_persona_interactions f
  JOIN dim_personas p USING (persona_id)
  JOIN dim_persona_history h ON h.persona_id = f.persona_id AND f.position >= h.from_position AND f.position < h.to_position
 GROUP BY 1, 2 ORDER BY 1, 2`},
		{"Diversity of a project's personas", `SELECT d.attribute, d.value, d.personas, round(d.share::numeric, 2) AS share, round(e.evenness::numeric, 2) AS evenness
  FROM persona_diversity d JOIN persona_evenness e USING (project_id, attribute)
 WHERE d.project_id = 'p1' AND d.attribute IN ('gender', 'segment')
 ORDER BY 1, 2`},
		{"From a fact back to what was said", `SELECT f.speaker, f.words, e.event_type, e.event_data ->> 'text' AS text
  FROM fact_discussion_turns f JOIN events e USING (position)
 WHERE f.discussion_id = 'discussion-3'
 ORDER BY f.words DESC, f.position LIMIT 3`},
	}
}

func TestQueries(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	builtStar(t, log, analytics.Config{})
	reader := openReader(t.Context(), t, log.Pool.Config(), analytics.ReaderConfig{Schema: log.Schema()})
	var b strings.Builder
	b.WriteString("# Ten questions to the star\nThe answers are those of the small world in `check_world_test.go`. Tables go by their plain names with the log's schema in `search_path`.\n")
	queries := exampleQueries()
	require.Len(t, queries, 10)
	for i, q := range queries {
		require.NoError(t, reader.Query(t.Context(), func(tx pgx.Tx, _ analytics.Fresh) error {
			rows, err := tx.Query(t.Context(), q.sql, pgx.QueryExecModeSimpleProtocol) // the answers are texts
			if err != nil {
				return err
			}
			table := ""
			n := 0
			for ; rows.Next(); n++ {
				cells := make([]string, len(rows.RawValues()))
				for c, value := range rows.RawValues() {
					if cells[c] = string(value); value == nil {
						cells[c] = "NULL"
					}
				}
				table += "| " + strings.Join(cells, " | ") + " |\n"
			}
			var names []string
			for _, field := range rows.FieldDescriptions() {
				names = append(names, field.Name)
			}
			require.Positive(t, n, q.title)
			_, _ = fmt.Fprintf(&b, "\n## %d. %s\n```sql\n%s\n```\n\n| %s |\n|%s\n%s", i+1, q.title, q.sql, strings.Join(names, " | "), strings.Repeat("---|", len(names)), table)
			return rows.Err()
		}), q.title)
	}
	requireFile(t, "QUERIES.md", b.String())
}
