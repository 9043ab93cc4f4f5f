-- Run it as the owner. The name of the role needs no escape anywhere.
DO $grant$
BEGIN
    IF EXISTS (SELECT FROM pg_class WHERE NOT pg_has_role(relowner, 'USAGE') AND oid IN ( -- GRANT itself might only warn
                   '{{schema}}.projections'::regclass, '{{schema}}.checkpoints'::regclass)) THEN
        RAISE EXCEPTION 'only the owner of the tables may give rights to them' USING ERRCODE = 'insufficient_privilege';
    END IF;
    GRANT SELECT, UPDATE ON {{schema}}.projections, {{schema}}.projection_leases, {{schema}}.checkpoints TO {{role}};
    GRANT SELECT, INSERT, UPDATE, DELETE ON {{schema}}.projection_workers, {{schema}}.projection_parked TO {{role}};
    GRANT SELECT, INSERT, DELETE ON {{schema}}.projection_skipped TO {{role}};
    GRANT EXECUTE ON FUNCTION {{schema}}.lease_shards, {{schema}}.fewest_held TO {{role}}; -- PUBLIC's, unless somebody took them away

    -- Temporary tables are everybody's right, too, unless somebody took it away.
    IF NOT has_database_privilege('{{role}}'::regrole, current_database(), 'TEMPORARY') THEN
        EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO {{role}}', current_database());
    END IF;
    IF NOT has_database_privilege('{{role}}'::regrole, current_database(), 'TEMPORARY') THEN
        RAISE EXCEPTION 'the owner of database % must give the role TEMPORARY on it', current_database()
            USING ERRCODE = 'insufficient_privilege';
    END IF;
END $grant$
