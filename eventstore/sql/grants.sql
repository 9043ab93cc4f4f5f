-- Role {{role}} as {{access}} of the log in schema {{schema}}: gives it those rights, and takes away the rest.
-- Run it as the log's owner. It is one statement: nobody sees half of it, and running it again changes nothing.
DO $grants$
DECLARE
    c_owner constant oid := (SELECT relowner FROM pg_class WHERE oid = '{{schema}}.events'::regclass);
    c_lock_timeout constant text := current_setting('lock_timeout');
    v_leaf regclass;
BEGIN
    IF '{{role}}'::regrole = c_owner THEN -- it would lose its own rights, and the functions run with them
        RAISE EXCEPTION 'role {{role}} owns the log' USING ERRCODE = 'invalid_grant_operation';
    END IF;
    IF NOT pg_has_role(c_owner, 'USAGE') THEN -- GRANT itself would only warn
        RAISE EXCEPTION 'only the log''s owner % may give rights to it', c_owner::regrole USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- Months are made under the same lock: each leaf has its readers, whoever comes first.
    PERFORM set_config('lock_timeout', '10s', true);
    PERFORM pg_advisory_xact_lock('{{schema}}.months'::regclass::oid::bigint);
    PERFORM set_config('lock_timeout', c_lock_timeout, true);

    REVOKE ALL ON {{schema}}.events, {{schema}}.streams, {{schema}}.months, {{schema}}.settled, {{schema}}.settings,
                  {{schema}}.imports, {{schema}}.import_skips, {{schema}}.migrations, {{schema}}.checkpoints FROM {{role}};
    REVOKE ALL ON SEQUENCE {{schema}}.events_position_seq FROM {{role}};
    REVOKE ALL ON FUNCTION {{schema}}.append, {{schema}}.append_at, {{schema}}.append_many, {{schema}}.append_group,
                           {{schema}}.ensure_month, {{schema}}.settle, {{schema}}.make_month, {{schema}}.move_positions,
                           {{schema}}.make_leaf, {{schema}}.key_leaf, {{schema}}.attach_leaf FROM {{role}};

    GRANT USAGE ON SCHEMA {{schema}} TO {{role}};
    GRANT SELECT ON {{schema}}.events, {{schema}}.streams, {{schema}}.months, {{schema}}.settled, {{schema}}.settings,
                    {{schema}}.imports, {{schema}}.import_skips, {{schema}}.migrations, {{schema}}.checkpoints TO {{role}};
    FOR v_leaf IN
        SELECT inhrelid FROM pg_inherits WHERE inhparent = '{{schema}}.events'::regclass
        UNION SELECT to_regclass('{{schema}}.events_' || to_char(month, 'YYYY_MM')) FROM {{schema}}.months -- detached, and may come back
         WHERE to_regclass('{{schema}}.events_' || to_char(month, 'YYYY_MM')) IS NOT NULL
    LOOP
        EXECUTE format('REVOKE ALL ON %1$s FROM {{role}}; GRANT SELECT ON %1$s TO {{role}}', v_leaf);
    END LOOP;
    GRANT EXECUTE ON FUNCTION {{schema}}.settled_position, {{schema}}.last_position, {{schema}}.fence_key,
                              {{schema}}.fence_class TO {{role}}; -- PUBLIC's, unless somebody took them away
    IF '{{access}}' = 'appender' THEN
        GRANT EXECUTE ON FUNCTION {{schema}}.append, {{schema}}.append_many, {{schema}}.append_group, {{schema}}.first_answer,
                                  {{schema}}.ensure_month, {{schema}}.settle TO {{role}};
    END IF;
END $grants$;
