-- Rows of a month that is not sealed are what the statistics say; 0 where there are none yet.
SELECT m.month::timestamp, m.state,
       coalesce(m.row_count, CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint ELSE 0 END) AS rows,
       CASE WHEN c.oid IS NULL THEN 0 ELSE coalesce(pg_total_relation_size(c.oid), 0) END AS bytes,
       coalesce(m.bytes, 0) AS sealed_bytes, coalesce(m.archive, '') AS archive,
       m.month + interval '1 month' <= clock_timestamp() AT TIME ZONE 'UTC' AS over
  FROM {{schema}}.months m
  LEFT JOIN pg_class c ON c.oid = to_regclass('{{schema}}.events_' || to_char(m.month, 'YYYY_MM'))
 WHERE m.month <= (clock_timestamp() AT TIME ZONE 'UTC')
 ORDER BY m.month
