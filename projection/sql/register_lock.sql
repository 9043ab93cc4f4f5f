SELECT set_config('lock_timeout', '10s', true), pg_advisory_xact_lock('{{schema}}.projections'::regclass::oid::bigint)
