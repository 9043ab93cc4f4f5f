SELECT position, stream_id, stream_version, attempts, error, skip FROM {{schema}}.projection_parked
 WHERE name = $1::text AND version = $2::integer AND shard = $3::integer AND key = $4::text
 ORDER BY position LIMIT 1
