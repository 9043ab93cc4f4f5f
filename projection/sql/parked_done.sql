WITH done AS (
    DELETE FROM {{schema}}.projection_parked
     WHERE name = $1::text AND version = $2::integer AND shard = $3::integer AND key = $4::text AND position = $5::bigint
    RETURNING name, version, key, position, error, attempts, skip
), skipped AS (
    INSERT INTO {{schema}}.projection_skipped (name, version, key, position, error, attempts, reason)
    SELECT name, version, key, position, error, attempts, skip FROM done WHERE $6::boolean
)
SELECT count(*) FROM done
