WITH freed AS (
    UPDATE {{schema}}.projection_leases SET worker = NULL, leased_until = '-infinity' WHERE name = $1::text AND version = $2::integer
)
UPDATE {{schema}}.checkpoints SET epoch = epoch + 1 WHERE name = $1::text AND version = $2::integer
