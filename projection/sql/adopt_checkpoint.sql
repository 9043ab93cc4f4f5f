UPDATE {{schema}}.checkpoints c SET epoch = $4::bigint FROM {{schema}}.projections p
 WHERE c.name = $1::text AND c.version = $2::integer AND c.shard = $3::integer AND c.epoch <= $4::bigint
   AND (p.name, p.version) = (c.name, c.version) AND p.shards = $5::integer -- another number deals the keys out otherwise
RETURNING c.position
