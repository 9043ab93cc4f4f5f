SELECT DISTINCT key FROM {{schema}}.projection_parked
 WHERE name = $1::text AND version = $2::integer AND shard = $3::integer
   AND (retry_at <= clock_timestamp() OR skip IS NOT NULL)
 LIMIT 100
