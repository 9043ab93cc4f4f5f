UPDATE {{schema}}.projections SET inline = true, changed_at = clock_timestamp() WHERE name = $1::text AND version = $2::integer
