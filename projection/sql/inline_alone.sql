SELECT set_config('lock_timeout', $1::text, true), pg_advisory_xact_lock('{{schema}}.projections'::regclass::oid::integer, 1)
