SELECT shard, key, position, stream_id, stream_version, attempts, error, parked_at, retry_at, coalesce(skip, '')
  FROM {{schema}}.projection_parked WHERE name = $1::text AND version = $2::integer
 ORDER BY position LIMIT $3::integer
