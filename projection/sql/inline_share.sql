SELECT pg_advisory_xact_lock_shared('{{schema}}.projections'::regclass::oid::integer, 1)
