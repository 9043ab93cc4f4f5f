-- Of an archived month that was begun, all events count: only the archive knows better.
SELECT (SELECT count(*) FROM (
           SELECT FROM {{schema}}.events WHERE position > $1::bigint AND position <= $2::bigint LIMIT $3::bigint) AS e)
     + (SELECT coalesce(sum(m.row_count), 0)::bigint FROM {{schema}}.months m
         WHERE m.last_position > $1::bigint AND m.first_position <= $2::bigint AND m.state IN ('detached', 'dropped')
           AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass('{{schema}}.events_' || to_char(m.month, 'YYYY_MM'))))
