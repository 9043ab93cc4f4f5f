WITH parked AS (
    DELETE FROM {{schema}}.projection_parked WHERE name = $1::text AND version = $2::integer
), skipped AS (
    DELETE FROM {{schema}}.projection_skipped WHERE name = $1::text AND version = $2::integer
)
UPDATE {{schema}}.checkpoints SET position = 0, updated_at = clock_timestamp() WHERE name = $1::text AND version = $2::integer
