DELETE FROM {{schema}}.snapshots
 WHERE stream_id = $1::text AND fold = $2::text AND fold_version = $3::integer AND format = $4::integer AND version = $5::bigint
