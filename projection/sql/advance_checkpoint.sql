UPDATE {{schema}}.checkpoints SET position = $6::bigint, updated_at = clock_timestamp()
 WHERE name = $1::text AND version = $2::integer AND shard = $3::integer AND epoch = $4::bigint AND position = $5::bigint
