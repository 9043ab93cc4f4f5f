package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// question is what a dashboard or an analyst asks.
type question struct {
	name   string
	sql    string // {{project}} and {{persona}} stand for one at random
	times  int
	atMost time.Duration
}

const (
	dashboard = 50 * time.Millisecond
	groupBy   = 5 * time.Second
)

func questions() []question {
	return []question{
		{"active personas, a month", `SELECT * FROM star.daily_active_personas WHERE project_id = {{project}} AND date BETWEEN '2024-11-01' AND '2024-11-30' ORDER BY date`, 200, dashboard},
		{"active personas, two years", `SELECT date, sum(active_personas), sum(total_interactions) FROM star.daily_active_personas WHERE project_id = {{project}} GROUP BY 1 ORDER BY 1`, 200, dashboard},
		{"weekly active users", `SELECT week, sum(active_users) FROM star.weekly_active_users GROUP BY 1 ORDER BY 1 DESC LIMIT 12`, 200, dashboard},
		{"health of all projects", `SELECT * FROM star.project_health_scores WHERE date = '2024-12-01' ORDER BY score LIMIT 50`, 200, dashboard},
		{"cohorts of a project", `SELECT * FROM star.weekly_retention_cohorts WHERE project_id = {{project}} AND member = 'persona' ORDER BY cohort_week, week_n`, 200, dashboard},
		{"cost by model, a month", `SELECT date, model, sum(cost) FROM star.daily_llm_costs WHERE date BETWEEN '2024-11-01' AND '2024-11-30' GROUP BY 1, 2`, 200, dashboard},
		{"diversity of a project", `SELECT * FROM star.persona_diversity WHERE project_id = {{project}}`, 200, dashboard},
		{"sessions of a project, a month", `SELECT * FROM star.fact_focus_group_sessions WHERE project_id = {{project}} AND day BETWEEN '2024-11-01' AND '2024-11-30'`, 200, dashboard},
		{"a persona's interactions, a month", `SELECT * FROM star.fact_persona_interactions WHERE persona_id = {{persona}} AND day BETWEEN '2024-11-01' AND '2024-11-30'`, 200, dashboard},
		{"by month and type, two years", `SELECT d.month, f.interaction_type, count(*), avg(f.duration_seconds) FROM star.fact_persona_interactions f JOIN star.dim_date d USING (day) GROUP BY 1, 2`, 3, groupBy},
		{"by month and type, days first", `SELECT d.month, f.interaction_type, sum(n), sum(seconds) / sum(known) FROM (SELECT day, interaction_type, count(*) AS n, count(duration_seconds) AS known, sum(duration_seconds) AS seconds
 FROM star.fact_persona_interactions GROUP BY 1, 2) AS f JOIN star.dim_date d USING (day) GROUP BY 1, 2`, 3, groupBy},
		{"by project, two years", `SELECT project_id, count(*), sum(duration_seconds) FROM star.fact_persona_interactions GROUP BY 1`, 3, groupBy},
		{"by age and gender, two years", `SELECT p.age / 10, p.gender, count(*) FROM star.fact_persona_interactions f JOIN star.dim_personas p USING (persona_id) GROUP BY 1, 2`, 3, groupBy},
	}
}

// ask reports the 99th percentile, and the plan where it takes longer than promised.
func ask(ctx context.Context, pool *pgxpool.Pool, q question) error {
	took := make([]time.Duration, 0, q.times)
	sql := ""
	for i := range q.times {
		var project, persona string
		if err := pool.QueryRow(ctx, `SELECT project_id, persona_id FROM star.dim_personas WHERE persona_id <> '' ORDER BY persona_id OFFSET $1::bigint % (SELECT count(*) - 1 FROM star.dim_personas) LIMIT 1`,
			i*37).Scan(&project, &persona); err != nil {
			return err
		}
		sql = replace(q.sql, project, persona)
		started := time.Now()
		rows, err := pool.Query(ctx, sql)
		if err != nil {
			return err
		}
		for rows.Next() { // the answer is read, and not kept
			_ = rows.RawValues()
		}
		if rows.Close(); rows.Err() != nil {
			return rows.Err()
		}
		took = append(took, time.Since(started))
	}
	slices.Sort(took)
	worst := took[len(took)*99/100]
	report(q.name, worst, q.atMost, fmt.Sprintf("p99 of %d; median %s", len(took), took[len(took)/2].Round(10*time.Microsecond)))
	if worst > q.atMost {
		return explain(ctx, pool, sql)
	}
	return nil
}

func explain(ctx context.Context, pool *pgxpool.Pool, sql string) error {
	lines, err := pool.Query(ctx, `EXPLAIN (ANALYZE, BUFFERS, SUMMARY) `+sql)
	if err != nil {
		return err
	}
	plan, err := collect(lines)
	for _, line := range plan {
		fmt.Println("    ", line)
	}
	return err
}

func collect(rows pgx.Rows) ([]string, error) { return pgx.CollectRows(rows, pgx.RowTo[string]) }

// replace puts values into the text: a prepared statement's plan would not know them.
func replace(sql, project, persona string) string {
	literal := func(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
	return strings.NewReplacer("{{project}}", literal(project), "{{persona}}", literal(persona)).Replace(sql)
}
