SELECT c.position, set_config('statement_timeout', $6::text, true), set_config('idle_in_transaction_session_timeout', $6::text, true),
       set_config('lock_timeout', greatest($6::bigint / 2, 1)::text, true) -- a table that is being altered will be free again
  FROM {{schema}}.checkpoints c JOIN {{schema}}.projections p USING (name, version)
 WHERE c.name = $1::text AND c.version = $2::integer AND c.shard = $3::integer
   AND c.epoch = $4::bigint AND c.position = $5::bigint AND p.state = 'running'
   FOR UPDATE OF c
