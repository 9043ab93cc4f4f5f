-- For transactions: pg_partition_root looks at the catalog of now, whatever the snapshot; without a root a month has left.
SELECT m.month::timestamp, coalesce(m.first_position, 0), coalesce(m.last_position, 0), coalesce(m.archive, '')
  FROM {{schema}}.months m
 WHERE (m.first_position IS NOT NULL OR m.state NOT IN ('detached', 'dropped')) -- nothing was in it otherwise
   AND (m.state IN ('detached', 'dropped')
        OR pg_partition_root(to_regclass('{{schema}}.events_' || to_char(m.month, 'YYYY_MM'))) IS DISTINCT FROM '{{schema}}.events'::regclass)
 ORDER BY m.month
