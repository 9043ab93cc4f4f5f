UPDATE {{schema}}.projection_leases SET worker = NULL, leased_until = '-infinity'
 WHERE name = $1::text AND version = $2::integer AND shard = $3::integer AND epoch = $4::bigint AND worker = $5::text
