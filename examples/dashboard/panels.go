package main

// panel is a chart: what it says, the SQL that it is made with, and how.
type panel struct {
	ID    string
	Title string
	Note  string
	SQL   string
	Empty string // instead of a chart that would show nothing
	draw  func(table) ([]byte, error)
}

// today is the star's; a row that is dated later stretches no chart.
const today = `(now() AT TIME ZONE 'UTC')::date`

// recent bounds a table to the six weeks up to its newest day.
func recent(table, day string) string {
	newest := `(SELECT max(` + day + `) FROM ` + table + ` WHERE ` + day + ` <= ` + today + `)`
	return day + ` > ` + newest + ` - 42 AND ` + day + ` <= ` + today
}

func costs() string {
	return `SELECT date, model, sum(calls)::bigint AS calls, sum(tokens_in)::bigint AS tokens_in,
       sum(tokens_out)::bigint AS tokens_out, round(sum(cost)::numeric, 6)::float8 AS usd
  FROM daily_llm_costs
 WHERE ` + recent("daily_llm_costs", "date") + `
 GROUP BY date, model
 ORDER BY date, model`
}

// panels is the page. Ids stand alone, names may repeat: rows are by id. Text of users comes with the rows, never with the SQL.
func panels() []panel {
	return []panel{
		{
			ID: "active", Title: "Active personas by day", draw: drawActive,
			Note:  "Personas with an interaction, up to the last six weeks; one that is in several projects counts in each.",
			Empty: "No persona has done anything yet.",
			SQL: `SELECT date, sum(active_personas)::bigint AS active_personas, sum(total_interactions)::bigint AS interactions
  FROM daily_active_personas
 WHERE ` + recent("daily_active_personas", "date") + `
 GROUP BY date
 ORDER BY date`,
		},
		{
			ID: "cohorts", Title: "Retention of personas (% of the cohort)", draw: drawCohorts,
			Note:  "A row is the personas first active in a week (and how many); a column, those active up to six weeks later.",
			Empty: "No cohort is a week old: retention shows once the week after a cohort's first has ended.",
			SQL: `SELECT cohort_week, cohort_size, week_n, active, round(retention::numeric, 4)::float8 AS retention
  FROM weekly_retention_cohorts
 WHERE project_id = '*' AND member = 'persona' AND active IS NOT NULL AND week_n < 7
   AND cohort_week > (SELECT max(cohort_week) FROM weekly_retention_cohorts
                       WHERE project_id = '*' AND member = 'persona' AND cohort_week <= ` + today + `) - 70
 ORDER BY cohort_week, week_n`,
		},
		{
			ID: "health", Title: "Health by project (0 to 1)", draw: drawHealth,
			Note:  "The newest score of the eight projects active last in six weeks, and its parts over 28 days. Score is the mean of those known.",
			Empty: "No project was active yet.",
			SQL: `SELECT coalesce(p.name, nullif(h.project_id, ''), '(none)') AS project, h.date, round(h.score::numeric, 3)::float8 AS score,
       round(h.completion::numeric, 3)::float8 AS completion, round(h.engagement::numeric, 3)::float8 AS engagement,
       round(h.recency::numeric, 3)::float8 AS recency
  FROM (SELECT DISTINCT ON (project_id) * FROM project_health_scores
         WHERE ` + recent("project_health_scores", "date") + `
         ORDER BY project_id, date DESC) AS h
  LEFT JOIN dim_projects p USING (project_id)
 ORDER BY h.last_active DESC, h.project_id
 LIMIT 8`,
		},
		{
			ID: "talk", Title: "Talk time by participant (seconds)", draw: drawTalk,
			Note:  "The fifteen who spoke longest in up to the last six weeks, without moderators; turns whose length is unknown count nothing.",
			Empty: "The recordings do not say how long a turn took.",
			SQL: `SELECT speaker, persona_id, count(*) AS turns, round(sum(duration_seconds)::numeric, 1)::float8 AS seconds
  FROM fact_discussion_turns
 WHERE NOT is_moderator AND duration_seconds IS NOT NULL
   AND ` + recent("fact_discussion_turns", "day") + `
   AND timestamp >= (SELECT max(day) - 43 FROM fact_discussion_turns WHERE day <= ` + today + `)::timestamptz -- leaves out months
 GROUP BY speaker, persona_id
 ORDER BY seconds DESC, speaker, persona_id
 LIMIT 15`,
		},
		{
			ID: "cost", Title: "Cost of models by day (US dollars)", draw: drawCost, SQL: costs(),
			Note:  "What language models were paid for, up to the last six weeks.",
			Empty: "No language model was paid for.",
		},
		{
			ID: "tokens", Title: "Tokens of models by day (in and out)", draw: drawTokens, SQL: costs(),
			Note:  "Prompts and answers together, up to the last six weeks.",
			Empty: "No language model was paid for.",
		},
	}
}
