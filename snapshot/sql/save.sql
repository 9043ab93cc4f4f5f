WITH given AS (
    SELECT * FROM unnest($6::bigint[], $7::text[]::uuid[], $8::bigint[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::bytea[])
        AS g (version, event_id, position, recorded_at, occurred_to, state, digest)
), had AS (
    SELECT version FROM {{schema}}.snapshots WHERE stream_id = $1::text AND fold = $2::text AND fold_version = $3::integer AND format = $4::integer
), kept AS (
    SELECT coalesce(min(version), 0) AS least FROM (SELECT version FROM given UNION SELECT version FROM had ORDER BY version DESC LIMIT $5::integer) AS newest
), saved AS (
    INSERT INTO {{schema}}.snapshots (stream_id, fold, fold_version, format, version, event_id, position, recorded_at, occurred_to, state, digest)
    SELECT $1::text, $2::text, $3::integer, $4::integer, g.* FROM given g, kept
     WHERE g.version >= kept.least
       AND NOT EXISTS (SELECT FROM {{schema}}.snapshot_quarantine q WHERE (q.fold, q.fold_version, q.format) = ($2::text, $3::integer, $4::integer))
    ON CONFLICT DO NOTHING
)
DELETE FROM {{schema}}.snapshots s USING kept
 WHERE s.stream_id = $1::text AND s.fold = $2::text AND s.fold_version = $3::integer AND s.format = $4::integer AND s.version < kept.least
