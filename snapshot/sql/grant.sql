-- Run it as the owner. The name of the role needs no escape anywhere.
DO $grant$
BEGIN
    IF EXISTS (SELECT FROM pg_class WHERE NOT pg_has_role(relowner, 'USAGE') AND oid = '{{schema}}.snapshots'::regclass) THEN
        RAISE EXCEPTION 'only the owner of the tables may give rights to them' USING ERRCODE = 'insufficient_privilege'; -- GRANT might only warn
    END IF;
    GRANT SELECT, INSERT, DELETE ON {{schema}}.snapshots TO {{role}};
    GRANT SELECT, INSERT ON {{schema}}.snapshot_quarantine TO {{role}};
    GRANT SELECT, INSERT, UPDATE ON {{schema}}.moments TO {{role}};
    GRANT EXECUTE ON FUNCTION {{schema}}.moment_after TO {{role}}; -- PUBLIC's, unless somebody took it away
END $grant$
