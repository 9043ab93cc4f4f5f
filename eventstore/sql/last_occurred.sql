SELECT coalesce(max(version), 0) FROM {{schema}}.events WHERE stream_id = $1::text AND occurred_at <= $2::timestamptz
