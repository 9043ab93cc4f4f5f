UPDATE {{schema}}.projection_parked SET skip = $4::text
 WHERE name = $1::text AND version = $2::integer AND position = $3::bigint AND attempts > 0
