UPDATE {{schema}}.projection_parked
   SET attempts = attempts + 1, error = $6::text, retry_at = clock_timestamp() + $7::bigint * interval '1 microsecond'
 WHERE name = $1::text AND version = $2::integer AND shard = $3::integer AND key = $4::text AND position = $5::bigint
