SELECT day, rows, usual
  FROM (SELECT d.day, (SELECT count(*) FROM {{fact}} f WHERE f.day = d.day) AS rows,
               (SELECT count(*) FROM {{fact}} f WHERE f.day IN (d.day - 7, d.day - 14, d.day - 21, d.day - 28)) / 4.0 AS usual
          FROM (SELECT (now() AT TIME ZONE {{zone}})::date - 1 AS day) AS d) AS days
 WHERE usual >= 10
