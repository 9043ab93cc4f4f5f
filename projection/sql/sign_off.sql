DELETE FROM {{schema}}.projection_workers WHERE worker = $1::text
