-- As of the last refresh: cohorts are computed in one transaction with the activity, whatever is marked since. Where that failed
-- of a week, this week and the cohorts that could have lost members to it are left out.
WITH behind AS (SELECT date_trunc('week', at AT TIME ZONE {{zone}})::date AS week FROM {{analytics_dirty}} WHERE aggregate = 'weekly_retention_cohorts'),
     members AS (SELECT project_id, member, member_id, min(week) AS cohort_week FROM {{weekly_activity}} GROUP BY 1, 2, 3),
     sizes AS (SELECT project_id, member, cohort_week, count(*) AS size FROM members GROUP BY 1, 2, 3),
     counted AS (SELECT m.project_id, m.member, m.cohort_week, (a.week - m.cohort_week) / 7 AS week_n, count(*) AS active
                   FROM members m JOIN {{weekly_activity}} a USING (project_id, member, member_id) GROUP BY 1, 2, 3, 4),
     computed AS (SELECT s.*, n AS week_n, CASE WHEN s.cohort_week + 7 * (n + 1) <= (SELECT today FROM {{analytics_refreshed}}) THEN coalesce(c.active, 0) END AS active
                    FROM sizes s CROSS JOIN generate_series(0, {{weeks}}) AS n
                    LEFT JOIN counted c ON (c.project_id, c.member, c.cohort_week, c.week_n) = (s.project_id, s.member, s.cohort_week, n))
SELECT to_jsonb(stored) AS stored, to_jsonb(computed) AS computed,
       stored.cohort_size IS DISTINCT FROM computed.size OR stored.active IS DISTINCT FROM computed.active
       OR stored.retention IS DISTINCT FROM computed.active::double precision / computed.size AS differs
  FROM {{weekly_retention_cohorts}} AS stored FULL JOIN computed USING (project_id, member, cohort_week, week_n)
 WHERE NOT EXISTS (SELECT FROM behind b WHERE cohort_week >= b.week OR cohort_week + 7 * week_n = b.week)
