package analytics_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
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

	var tables []string
	for _, table := range star.Spec().Tables {
		tables = append(tables, table.Name)
	}
	rows, err := log.Pool.Query(t.Context(), `
SELECT c.relname || coalesce('.' || a.attname, '')
  FROM pg_class c LEFT JOIN LATERAL (SELECT attname, attnum FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped UNION ALL SELECT NULL, 0) AS a ON true
 WHERE c.relnamespace = $1::text::regnamespace AND (c.relkind IN ('r', 'p') AND c.relname ~ '_v1$' OR c.relkind = 'v' AND c.relname = ANY ($2::text[]))
   AND coalesce(CASE WHEN a.attnum = 0 THEN obj_description(c.oid, 'pg_class') ELSE col_description(c.oid, a.attnum) END, '') = ''`, log.Schema(), tables)
	require.NoError(t, err)
	silent, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Empty(t, silent, "each table and column has a comment, and each view, which is what a BI tool opens")

	for _, table := range tables {
		require.Contains(t, text, "\n## "+table+"\n")
	}
	require.Contains(t, text, "dim_personas ||--o{ fact_persona_interactions : persona_id")
	requireFile(t, "DICTIONARY.md", "# Dictionary of the star\nRead from the database by `Star.Dictionary`.\n\n"+text)
}

type exampleQuery struct{ title, sql string }

// inMarch bounds a fact: day by the index, timestamp so that other months' partitions are not looked at.
const inMarch = `day BETWEEN '2025-03-03' AND '2025-03-16' AND timestamp >= '2025-03-02Z' AND timestamp < '2025-03-18Z'`

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
 WHERE date BETWEEN '2025-03-01' AND '2025-03-31'
 GROUP BY 1, 2 ORDER BY 1, 2`},
		{"How well focus groups work, by project", `SELECT project_id, sum(sessions) AS sessions, sum(completed) AS completed, sum(responses) AS responses,
       round((sum(words_per_response * responses) / nullif(sum(responses), 0))::numeric, 2) AS words_per_response,
       round((sum(response_quality * sessions) / nullif(sum(sessions) FILTER (WHERE response_quality IS NOT NULL), 0))::numeric, 3) AS quality_by_session
  FROM focus_group_effectiveness
 WHERE date BETWEEN '2025-03-01' AND '2025-03-31'
 GROUP BY 1 ORDER BY 1`},
		{"Talk time in a discussion", `SELECT speaker, count(*) AS turns, sum(words) AS words, sum(duration_seconds) AS seconds,
       round((sum(duration_seconds) / sum(sum(duration_seconds)) OVER ())::numeric, 2) AS share
  FROM fact_discussion_turns
 WHERE discussion_id = 'discussion-1' AND NOT is_moderator
   AND ` + inMarch + `
 GROUP BY 1 ORDER BY seconds DESC`},
		{"What a survey's choices were", `SELECT question, choice, count(*) AS chosen
  FROM fact_survey_answers CROSS JOIN LATERAL unnest(choices) AS choice
 WHERE survey_id = 's1' AND ` + inMarch + `
 GROUP BY 1, 2 ORDER BY 1, 2`},
		{"Interactions by occupation, as it was then and as it is now (who is introduced later has no history then)", `SELECT coalesce(h.occupation, '(unknown)') AS as_it_was, coalesce(p.occupation, '(unknown)') AS as_it_is, count(*) AS interactions
  FROM fact_persona_interactions f
  JOIN dim_personas p USING (persona_id)
  LEFT JOIN dim_persona_history h ON h.persona_id = f.persona_id AND f.position >= h.from_position AND f.position < h.to_position
 WHERE ` + inMarch + `
 GROUP BY 1, 2 ORDER BY 1, 2`},
		{"Diversity of a project's personas", `SELECT d.attribute, d.value, d.personas, round(d.share::numeric, 2) AS share, round(e.evenness::numeric, 2) AS evenness
  FROM persona_diversity d JOIN persona_evenness e USING (project_id, attribute)
 WHERE d.project_id = 'p1' AND d.attribute IN ('gender', 'segment')
 ORDER BY 1, 2`},
		{"From a fact back to what was said", `SELECT f.speaker, f.words, e.event_type, e.event_data ->> 'text' AS text
  FROM fact_discussion_turns f JOIN events e USING (position)
 WHERE f.discussion_id = 'discussion-3' AND ` + inMarch + `
 ORDER BY f.words DESC, f.position LIMIT 3`},
	}
}

// appendLate adds a persona who speaks before it is introduced.
func appendLate(t testing.TB, log *eventstoretest.Log) {
	t.Helper()
	at := smallWorld().AddDate(0, 0, 9)
	turn := focusgroup.Response{ProjectID: "p2", UserID: "u2", PersonaID: "a7", PersonaName: "Gus", Text: "late", Question: "Would you buy it?", DurationSeconds: 3}
	appendAt(t, log, "discussion-3", at, turn, turn)
	late := smallPersona(5)
	late.PersonaID, late.Name = "a7", "Gus"
	appendAt(t, log, focusgroup.PersonaStream("a7"), at.Add(time.Hour), late)
}

func TestQueries(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	appendLate(t, log)
	builtStar(t, log, analytics.Config{})
	reader := openReader(t.Context(), t, log.Pool.Config(), analytics.ReaderConfig{Schema: log.Schema()})
	var b strings.Builder
	b.WriteString("# Ten questions to the star\nThe answers are those of the small world in `check_world_test.go`. Tables go by their plain names with the log's schema in `search_path`.\n" +
		"A fact is bounded by `day`, in the star's time zone, and by `timestamp`, a day wider, which chooses its months in UTC.\n")
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
	var facts, counted int
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT count(*) FROM `+log.Schema()+`.fact_persona_interactions`).Scan(&facts))
	require.NoError(t, reader.Query(t.Context(), func(tx pgx.Tx, _ analytics.Fresh) error {
		return tx.QueryRow(t.Context(), `SELECT sum(interactions) FROM (`+queries[7].sql+`) AS q`).Scan(&counted)
	}))
	require.Equal(t, facts, counted, "no fact falls out of a join")
	requireFile(t, "QUERIES.md", b.String())
}
