SELECT version, event_id, occurred_to, state, digest FROM {{schema}}.snapshots
 WHERE stream_id = $1::text AND fold = $2::text AND fold_version = $3::integer AND format = $4::integer
   AND version <= $5::bigint AND position <= $6::bigint AND recorded_at <= $7::timestamptz AND occurred_to <= $8::timestamptz
 ORDER BY version DESC LIMIT 1
