SELECT m.month::timestamp AS month, m.state, coalesce(m.first_position, 0) AS first, coalesce(m.last_position, 0) AS last,
       coalesce(m.row_count, 0) AS rows, coalesce(m.bytes, 0) AS bytes, m.digest, coalesce(m.archive, '') AS archive, m.changed_at,
       clock_timestamp() - m.changed_at AS since,
       m.month + interval '1 month' <= (clock_timestamp() - $1::interval) AT TIME ZONE 'UTC' AS over,
       t.leaf IS NOT NULL AS stands, coalesce(i.inhrelid IS NOT NULL, false) AS attached, coalesce(i.inhdetachpending, false) AS leaving
  FROM {{schema}}.months m
  LEFT JOIN LATERAL (SELECT to_regclass('{{schema}}.events_' || to_char(m.month, 'YYYY_MM')) AS leaf) AS t ON true
  LEFT JOIN pg_inherits i ON i.inhrelid = t.leaf AND i.inhparent = '{{schema}}.events'::regclass
 ORDER BY m.month
