package analytics

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/projection"
)

const (
	tableActivity = "weekly_activity"
	tableMembers  = "cohort_members"
	tableCohorts  = "weekly_retention_cohorts"
)

// cohortWeeks is how many weeks after their first a cohort is looked at.
const cohortWeeks = 26

func memberColumn() Column {
	return Column{Name: "member", Type: "text NOT NULL", Comment: "persona or user."}
}

func activity() Aggregate {
	return Aggregate{
		Name: tableActivity, By: ByWeek, Key: []string{"week", project, "member", "member_id"},
		Grain: "A row a week, project and persona or user with an interaction in it; and once more with the project '*' for all projects.",
		Columns: []Column{
			weekColumn(),
			{Name: project, Type: `text COLLATE "C" NOT NULL`, Comment: "Project; '' for none, '*' for all."},
			memberColumn(),
			{Name: "member_id", Type: `text COLLATE "C" NOT NULL`, Comment: "Id of the persona or user."},
		},
		SQL: `
SELECT DISTINCT week, p.project_id, m.member, m.member_id` + counted("day, project_id, persona_id, user_id", ``, inWeeks) + ` JOIN {{dim_date}} USING (day)
 CROSS JOIN LATERAL (VALUES (counted.project_id), ('*')) AS p (project_id)
 CROSS JOIN LATERAL (VALUES ('persona', persona_id), ('user', user_id)) AS m (member, member_id)
 WHERE m.member_id <> ''`,
	}
}

func cohortTables() []projection.Table {
	return []projection.Table{
		{Name: tableMembers, SQL: `CREATE TABLE {{table}} (
    project_id  text COLLATE "C" NOT NULL,
    member      text NOT NULL,
    member_id   text COLLATE "C" NOT NULL,
    cohort_week date NOT NULL,
    PRIMARY KEY (project_id, member, member_id)
);
CREATE INDEX ON {{table}} (cohort_week);
COMMENT ON TABLE {{table}} IS 'A row a project and persona or user: the cohort it belongs to.';
COMMENT ON COLUMN {{table}}.project_id IS 'Project; '''' for none, ''*'' for all.';
COMMENT ON COLUMN {{table}}.member IS 'persona or user.';
COMMENT ON COLUMN {{table}}.member_id IS 'Id of the persona or user.';
COMMENT ON COLUMN {{table}}.cohort_week IS 'Monday of the first week with an interaction.';`},
		{Name: tableCohorts, SQL: fmt.Sprintf(`CREATE TABLE {{table}} (
    project_id  text COLLATE "C" NOT NULL,
    member      text NOT NULL,
    cohort_week date NOT NULL,
    week_n      integer NOT NULL,
    cohort_size bigint NOT NULL,
    active      bigint,
    retention   double precision,
    PRIMARY KEY (project_id, member, cohort_week, week_n)
);
CREATE INDEX ON {{table}} ((cohort_week + 7 * week_n));
COMMENT ON TABLE {{table}} IS 'A row a project, kind of member, cohort and week after its first, from 0 to %d. Weeks that have ended and had no one are 0; weeks that have not ended are NULL.';
COMMENT ON COLUMN {{table}}.project_id IS 'Project; '''' for none, ''*'' for all.';
COMMENT ON COLUMN {{table}}.member IS 'persona or user.';
COMMENT ON COLUMN {{table}}.cohort_week IS 'Monday of the week in which they were first active.';
COMMENT ON COLUMN {{table}}.week_n IS 'Weeks since then.';
COMMENT ON COLUMN {{table}}.cohort_size IS 'Members of the cohort.';
COMMENT ON COLUMN {{table}}.active IS 'Members active in that week; NULL where it has not ended.';
COMMENT ON COLUMN {{table}}.retention IS 'active / cohort_size; NULL where the week has not ended.';`, cohortWeeks)},
	}
}

// refreshCohorts follows the activity of some weeks. Facts are never taken back, so that a member's first week only moves to an
// earlier one: the cohorts that it leaves and joins are computed anew, and of the others the weeks that have changed or ended.
func (s *Star) refreshCohorts(ctx context.Context, tx pgx.Tx, weeks []time.Time, today time.Time) error {
	var changed []time.Time
	err := tx.QueryRow(ctx, s.fill(`
WITH first AS (SELECT project_id, member, member_id, min(week) AS week FROM {{weekly_activity}} WHERE week = ANY ($1::date[]) GROUP BY 1, 2, 3),
     moved AS (SELECT f.*, m.cohort_week AS before FROM first f LEFT JOIN {{cohort_members}} m USING (project_id, member, member_id)
                WHERE m.cohort_week IS NULL OR f.week < m.cohort_week),
     written AS (INSERT INTO {{cohort_members}} SELECT project_id, member, member_id, week FROM moved
                 ON CONFLICT (project_id, member, member_id) DO UPDATE SET cohort_week = excluded.cohort_week)
SELECT coalesce(array_agg(DISTINCT week) FILTER (WHERE week IS NOT NULL), '{}') FROM (SELECT week FROM moved UNION SELECT before FROM moved) AS w`), weeks).Scan(&changed)
	if err != nil {
		return fmt.Errorf("finding cohorts: %w", err)
	}
	var ended []time.Time
	err = tx.QueryRow(ctx, s.fill(`SELECT coalesce(array_agg(DISTINCT cohort_week + 7 * week_n), '{}') FROM {{weekly_retention_cohorts}}
 WHERE active IS NULL AND cohort_week + 7 * week_n + 7 <= $1::date`), today).Scan(&ended)
	if err != nil {
		return fmt.Errorf("finding weeks that have ended: %w", err)
	}
	if _, err := tx.Exec(ctx, s.fill(`DELETE FROM {{weekly_retention_cohorts}} WHERE cohort_week = ANY ($1::date[])`), changed); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, s.fill(cohortCells), append(weeks[:len(weeks):len(weeks)], ended...), changed, today, cohortWeeks); err != nil {
		return fmt.Errorf("computing cohorts: %w", err)
	}
	return nil
}

// cohortCells computes the cells of the weeks $1, and all of the cohorts $2.
const cohortCells = `
WITH cohorts AS (SELECT project_id, member, cohort_week, count(*) AS size FROM {{cohort_members}} GROUP BY 1, 2, 3),
     cells AS (SELECT c.*, n AS week_n, c.cohort_week + 7 * n AS week FROM cohorts c, generate_series(0, $4::integer) AS n
                WHERE c.cohort_week = ANY ($2::date[]) OR c.cohort_week + 7 * n = ANY ($1::date[])),
     counted AS (SELECT m.project_id, m.member, m.cohort_week, a.week, count(*) AS active
                   FROM {{cohort_members}} m JOIN {{weekly_activity}} a USING (project_id, member, member_id)
                  WHERE m.cohort_week = ANY ($2::date[]) OR a.week = ANY ($1::date[]) GROUP BY 1, 2, 3, 4)
INSERT INTO {{weekly_retention_cohorts}}
SELECT project_id, member, cohort_week, week_n, size,
       CASE WHEN week + 7 <= $3::date THEN coalesce(active, 0) END, CASE WHEN week + 7 <= $3::date THEN coalesce(active, 0)::double precision / size END
  FROM cells LEFT JOIN counted USING (project_id, member, cohort_week, week)
    ON CONFLICT (project_id, member, cohort_week, week_n)
    DO UPDATE SET cohort_size = excluded.cohort_size, active = excluded.active, retention = excluded.retention`
