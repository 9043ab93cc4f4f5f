UPDATE {{schema}}.checkpoints SET position = $4::bigint, updated_at = clock_timestamp()
 WHERE name = $1::text AND version = $2::integer AND shard = $3::integer
