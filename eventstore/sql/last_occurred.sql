WITH h AS (SELECT first_recorded_at AS first, last_recorded_at AS last FROM {{schema}}.streams WHERE stream_id = $1::text)
SELECT coalesce(max(version), 0),
       EXISTS (SELECT FROM {{schema}}.months m, h
                WHERE m.state IN ('detached', 'dropped') AND m.first_position IS NOT NULL
                  AND m.month >= date_trunc('month', h.first AT TIME ZONE 'UTC') AND m.month <= (h.last AT TIME ZONE 'UTC'))
  FROM {{schema}}.events
 WHERE stream_id = $1::text AND occurred_at <= $2::timestamptz
   AND recorded_at >= (SELECT first FROM h) AND recorded_at <= (SELECT last FROM h) -- the other months are pruned
