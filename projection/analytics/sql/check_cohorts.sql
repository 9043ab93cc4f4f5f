WITH members AS (SELECT project_id, member, member_id, min(week) AS cohort_week FROM {{weekly_activity}} GROUP BY 1, 2, 3),
     sizes AS (SELECT project_id, member, cohort_week, count(*) AS size FROM members GROUP BY 1, 2, 3),
     active AS (SELECT m.project_id, m.member, m.cohort_week, (a.week - m.cohort_week) / 7 AS week_n, count(*) AS active
                  FROM members m JOIN {{weekly_activity}} a USING (project_id, member, member_id) GROUP BY 1, 2, 3, 4),
     computed AS (SELECT s.*, n AS week_n, a.active, s.cohort_week + 7 * (n + 1) < (now() AT TIME ZONE {{zone}})::date AS ended
                    FROM sizes s CROSS JOIN generate_series(0, {{weeks}}) AS n
                    LEFT JOIN active a ON (a.project_id, a.member, a.cohort_week, a.week_n) = (s.project_id, s.member, s.cohort_week, n))
SELECT to_jsonb(stored) AS stored, to_jsonb(computed) AS computed
  FROM {{weekly_retention_cohorts}} AS stored FULL JOIN computed USING (project_id, member, cohort_week, week_n)
 WHERE stored.cohort_size IS DISTINCT FROM computed.size
    OR stored.active <> coalesce(computed.active, 0)
    OR stored.active IS NULL AND computed.ended
