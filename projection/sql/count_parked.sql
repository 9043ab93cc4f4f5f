SELECT count(DISTINCT key) FROM {{schema}}.projection_parked WHERE name = $1::text AND version = $2::integer
