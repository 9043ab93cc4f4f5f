-- Of an archived month that was begun, all events count: only the archive knows better.
SELECT (SELECT count(*) FROM (
           SELECT FROM {{schema}}.events WHERE position > $1::bigint AND position <= $2::bigint LIMIT $3::bigint) AS e)
     + (SELECT coalesce(sum(row_count), 0)::bigint FROM {{schema}}.months
         WHERE last_position > $1::bigint AND first_position <= $2::bigint AND state IN ('detached', 'dropped'))
