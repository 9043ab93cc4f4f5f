WITH saved AS (
    INSERT INTO {{schema}}.snapshots (stream_id, fold, fold_version, format, version, event_id, position, recorded_at, occurred_to, state, digest)
    VALUES ($1::text, $2::text, $3::integer, $4::integer, $5::bigint, $6::uuid, $7::bigint, $8::timestamptz, $9::timestamptz, $10::text, $11::bytea)
    ON CONFLICT DO NOTHING
)
DELETE FROM {{schema}}.snapshots
 WHERE stream_id = $1::text AND fold = $2::text AND fold_version = $3::integer AND format = $4::integer
   AND version IN (SELECT o.version FROM {{schema}}.snapshots o
                    WHERE o.stream_id = $1::text AND o.fold = $2::text AND o.fold_version = $3::integer AND o.format = $4::integer
                      AND o.version < $5::bigint
                    ORDER BY o.version DESC OFFSET $12::bigint)
