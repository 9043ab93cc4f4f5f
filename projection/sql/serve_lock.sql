SELECT set_config('lock_timeout', '100ms', true), set_config('statement_timeout', '0', true), pg_advisory_xact_lock('{{schema}}.projections'::regclass::oid::bigint)
