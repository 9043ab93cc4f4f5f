WITH freed AS ( -- what the last beat took, and nobody began to work on
    UPDATE {{schema}}.projection_leases SET worker = NULL, leased_until = '-infinity' WHERE worker = $1::text
)
DELETE FROM {{schema}}.projection_workers WHERE worker = $1::text
