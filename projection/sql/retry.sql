UPDATE {{schema}}.projection_parked SET retry_at = clock_timestamp()
 WHERE name = $1::text AND version = $2::integer AND attempts > 0 AND ($3::text IS NULL OR key = $3::text)
