-- For transactions: pg_partition_root looks at the catalog of now, whatever the snapshot; without a root a month has left. Where
-- it was not even sealed in the snapshot, any position may be its.
SELECT m.month::timestamp, coalesce(m.first_position, 1), coalesce(m.last_position, 9223372036854775807), coalesce(m.archive, '')
  FROM {{schema}}.months m
 WHERE m.state IN ('detached', 'dropped') AND m.first_position IS NOT NULL
    OR m.state NOT IN ('detached', 'dropped')
       AND pg_partition_root(to_regclass('{{schema}}.events_' || to_char(m.month, 'YYYY_MM'))) IS DISTINCT FROM '{{schema}}.events'::regclass
 ORDER BY m.month
