SELECT coalesce(max(version), 0) FROM {{schema}}.events
 WHERE stream_id = $1::text AND occurred_at <= $2::timestamptz
   AND recorded_at >= (SELECT first_recorded_at FROM {{schema}}.streams WHERE stream_id = $1::text) -- the other months are pruned
   AND recorded_at <= (SELECT last_recorded_at FROM {{schema}}.streams WHERE stream_id = $1::text)
