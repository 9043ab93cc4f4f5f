INSERT INTO {{schema}}.partition_releases (name, version, reason)
SELECT $1::text, $2::integer, $3::text WHERE EXISTS (SELECT FROM {{schema}}.checkpoints WHERE (name, version) = ($1::text, $2::integer))
ON CONFLICT (name, version) DO UPDATE SET reason = excluded.reason, released_at = clock_timestamp()
