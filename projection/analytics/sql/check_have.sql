-- The rows that positions have. The events of a month that was taken off the log are not there to be asked.
SELECT position, rows, EXISTS (SELECT FROM {{schema}}.months m WHERE m.state IN ('detached', 'dropped') AND c.position BETWEEN m.first_position AND m.last_position)
  FROM (SELECT position, count(*) AS rows FROM {{fact}} WHERE position > $1::bigint AND position <= $2::bigint GROUP BY 1) AS c
