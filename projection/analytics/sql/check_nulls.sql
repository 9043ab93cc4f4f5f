SELECT c.name AS of_column, round(c.unknown_now::numeric, 3) AS unknown_now, round(c.unknown_before::numeric, 3) AS unknown_before
  FROM (SELECT count(*) FILTER (WHERE now) AS rows_now, count(*) FILTER (WHERE NOT now) AS rows_before, {{known}}
          FROM (SELECT f.*, f.day > l.day - 7 AS now
                  FROM {{fact}} f, (SELECT max(day) AS day FROM {{fact}} WHERE day <= (now() AT TIME ZONE {{zone}})::date) AS l
                 WHERE f.day > l.day - 35 AND f.day <= l.day) AS f) AS n
 CROSS JOIN LATERAL (SELECT name, 1 - known_now::double precision / rows_now, 1 - known_before::double precision / rows_before
                       FROM (VALUES {{values}}) AS v (name, known_now, known_before)) AS c (name, unknown_now, unknown_before)
 WHERE n.rows_now >= 30 AND n.rows_before >= 30
