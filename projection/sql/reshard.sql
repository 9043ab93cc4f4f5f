WITH epoch AS (
    SELECT 1 + max(greatest(c.epoch, l.epoch)) AS next
      FROM {{schema}}.checkpoints c JOIN {{schema}}.projection_leases l USING (name, version, shard)
     WHERE c.name = $1::text AND c.version = $2::integer
), named AS (
    UPDATE {{schema}}.projections SET shards = $3::integer, changed_at = clock_timestamp() WHERE name = $1::text AND version = $2::integer
), gone AS (
    DELETE FROM {{schema}}.checkpoints WHERE name = $1::text AND version = $2::integer AND shard >= $3::integer
), free AS (
    DELETE FROM {{schema}}.projection_leases WHERE name = $1::text AND version = $2::integer AND shard >= $3::integer
), places AS (
    INSERT INTO {{schema}}.checkpoints AS c (name, version, shard, position, epoch)
    SELECT $1::text, $2::integer, s, $4::bigint, epoch.next FROM epoch, generate_series(0, $3::integer - 1) AS s
    ON CONFLICT (name, version, shard) DO UPDATE SET epoch = excluded.epoch -- who worked on the old shards does so no more
)
INSERT INTO {{schema}}.projection_leases AS l (name, version, shard, epoch)
SELECT $1::text, $2::integer, s, epoch.next FROM epoch, generate_series(0, $3::integer - 1) AS s
ON CONFLICT (name, version, shard) DO UPDATE SET worker = NULL, leased_until = '-infinity', epoch = excluded.epoch
