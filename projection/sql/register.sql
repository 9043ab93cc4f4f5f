WITH made AS (
    INSERT INTO {{schema}}.projections (name, version, shards, tables) VALUES ($1::text, $2::integer, $3::integer, $4::text[])
    RETURNING name, version
), places AS (
    INSERT INTO {{schema}}.checkpoints (name, version, shard)
    SELECT made.name, made.version, s FROM made, generate_series(0, $3::integer - 1) AS s
)
INSERT INTO {{schema}}.projection_leases (name, version, shard)
SELECT made.name, made.version, s FROM made, generate_series(0, $3::integer - 1) AS s
