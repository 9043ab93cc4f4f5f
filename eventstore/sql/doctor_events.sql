-- The newest 1,000 events: the last one, the one recorded latest, and the largest step back in time from one to the next.
-- Times are microseconds since 1970. The last column: the oldest event that is settled, but not by the stored row.
WITH newest AS MATERIALIZED (
    SELECT position, recorded_at FROM {{schema}}.events ORDER BY position DESC LIMIT 1000
), steps AS (
    SELECT position, recorded_at, lag(position) OVER w AS before, lag(recorded_at) OVER w AS was FROM newest WINDOW w AS (ORDER BY position)
), back AS (
    SELECT * FROM steps WHERE was > recorded_at ORDER BY was - recorded_at DESC LIMIT 1
), latest AS (
    SELECT * FROM newest ORDER BY recorded_at DESC, position DESC LIMIT 1
)
SELECT {{schema}}.last_position(), -- later than this statement's snapshot, so that the last event is not above it
       coalesce((SELECT max(position) FROM newest), 0),
       coalesce((SELECT position FROM latest), 0),
       coalesce((SELECT (extract(epoch FROM recorded_at) * 1000000)::bigint FROM latest), 0),
       coalesce((SELECT before FROM back), 0),
       coalesce((SELECT position FROM back), 0),
       coalesce((SELECT (extract(epoch FROM was) * 1000000)::bigint FROM back), 0),
       coalesce((SELECT (extract(epoch FROM recorded_at) * 1000000)::bigint FROM back), 0),
       coalesce((SELECT (extract(epoch FROM recorded_at) * 1000000)::bigint FROM {{schema}}.events
                  WHERE position > $1::bigint AND position <= $2::bigint ORDER BY position LIMIT 1), 0)
