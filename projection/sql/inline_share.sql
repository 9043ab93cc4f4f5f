SELECT current_setting('transaction_isolation') FROM (SELECT
       pg_advisory_xact_lock_shared('{{schema}}.projections'::regclass::oid::integer, 1) OFFSET 0) AS shared
