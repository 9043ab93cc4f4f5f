UPDATE {{schema}}.checkpoints SET epoch = $4::bigint
 WHERE name = $1::text AND version = $2::integer AND shard = $3::integer AND epoch <= $4::bigint
RETURNING position
