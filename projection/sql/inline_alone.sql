SELECT set_config('lock_timeout', $1::text, true), set_config('idle_in_transaction_session_timeout', $2::text, true),
       pg_advisory_xact_lock('{{schema}}.projections'::regclass::oid::integer, 1)
