-- The next event of the key is due at once: whoever comes after a kill in the middle finds it.
WITH done AS (
    DELETE FROM {{schema}}.projection_parked
     WHERE name = $1::text AND version = $2::integer AND shard = $3::integer AND key = $4::text AND position = $5::bigint
    RETURNING name, version, key, position, error, attempts, skip
), next AS (
    UPDATE {{schema}}.projection_parked k SET retry_at = clock_timestamp()
     WHERE k.name = $1::text AND k.version = $2::integer AND k.shard = $3::integer AND k.key = $4::text
       AND k.position = (SELECT min(n.position) FROM {{schema}}.projection_parked n
                          WHERE n.name = $1::text AND n.version = $2::integer AND n.shard = $3::integer AND n.key = $4::text
                            AND n.position > $5::bigint)
    RETURNING 1
), skipped AS (
    INSERT INTO {{schema}}.projection_skipped (name, version, key, position, error, attempts, reason)
    SELECT name, version, key, position, error, attempts, skip FROM done WHERE $6::boolean
)
SELECT (SELECT count(*) FROM done), EXISTS (SELECT FROM next)
