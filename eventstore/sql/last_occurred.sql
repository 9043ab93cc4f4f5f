WITH h AS (SELECT first_recorded_at AS first, last_recorded_at AS last FROM {{schema}}.streams WHERE stream_id = $1::text)
SELECT coalesce(max(version), 0),
       -- Whether this may not be all of the stream: months have left, or may have since an older snapshot, or have come back since this
       -- statement was planned.
       EXISTS (SELECT FROM {{schema}}.months m, h
                WHERE m.month >= date_trunc('month', h.first AT TIME ZONE 'UTC') AND m.month <= (h.last AT TIME ZONE 'UTC')
                  AND (m.state IN ('detached', 'dropped', 'restored') AND m.first_position IS NOT NULL
                       OR m.state NOT IN ('open', 'sealing') AND current_setting('transaction_isolation') IN ('repeatable read', 'serializable')))
  FROM {{schema}}.events
 WHERE stream_id = $1::text AND occurred_at <= $2::timestamptz
   AND recorded_at >= (SELECT first FROM h) AND recorded_at <= (SELECT last FROM h) -- the other months are pruned
