SELECT DISTINCT key FROM {{schema}}.projection_parked WHERE name = $1::text AND version = $2::integer AND shard = $3::integer
