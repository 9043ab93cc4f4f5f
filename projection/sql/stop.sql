UPDATE {{schema}}.projections SET state = $3::text, reason = $4::text, changed_at = clock_timestamp()
 WHERE name = $1::text AND version = $2::integer
