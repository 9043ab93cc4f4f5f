-- The event log: head rows, events by UTC month, the month registry, the settled row. eventstore/doc.go tells the
-- protocol; the comments here say why each line is where it is.

CREATE TABLE {{schema}}.streams (
    stream_id         text COLLATE "C" PRIMARY KEY,
    project_id        text COLLATE "C",
    version           bigint NOT NULL,
    first_recorded_at timestamptz NOT NULL,
    last_recorded_at  timestamptz NOT NULL
) WITH (fillfactor = 70); -- room for HOT updates: every append updates its head row
-- No check and no generated column: each costs every append 10 µs. The category is split_part(stream_id, '-', 1).
CREATE INDEX streams_project_idx ON {{schema}}.streams (project_id, stream_id) WHERE project_id IS NOT NULL;

COMMENT ON TABLE  {{schema}}.streams IS 'Head row of each stream: the arbiter of optimistic concurrency.';
COMMENT ON COLUMN {{schema}}.streams.version IS 'Version of the last event; versions are 1, 2, 3 ... without holes.';
COMMENT ON COLUMN {{schema}}.streams.project_id IS 'The project that the append which began the stream named; it never changes, so that a filter by it is stable.';
COMMENT ON COLUMN {{schema}}.streams.last_recorded_at IS 'Not before the recorded_at of the last event: the upper time bound of reads.';

CREATE TABLE {{schema}}.events (
    position       bigint NOT NULL,
    recorded_at    timestamptz NOT NULL,
    stream_id      text COLLATE "C" NOT NULL,
    version        bigint NOT NULL,
    event_id       uuid NOT NULL,
    event_type     text COLLATE "C" NOT NULL,
    schema_version integer NOT NULL,
    occurred_at    timestamptz NOT NULL,
    event_data     json NOT NULL,
    metadata       json NOT NULL
) PARTITION BY RANGE (recorded_at);

COMMENT ON TABLE  {{schema}}.events IS 'The append-only log, one partition a UTC month of recorded_at.';
COMMENT ON COLUMN {{schema}}.events.position IS 'Place in the global order. Read it only up to the settled position.';
COMMENT ON COLUMN {{schema}}.events.recorded_at IS 'When the database took the event; never falls within a stream.';
COMMENT ON COLUMN {{schema}}.events.occurred_at IS 'When it happened, as the writer says; not monotone in a stream.';
COMMENT ON COLUMN {{schema}}.events.event_data IS 'The body, byte for byte as it was written.';

-- CACHE 1: a session that held back numbers would hand out positions below fences already passed.
CREATE SEQUENCE {{schema}}.events_position_seq AS bigint MINVALUE 1 START 1 CACHE 1 NO CYCLE;

CREATE TABLE {{schema}}.months (
    month          date PRIMARY KEY CHECK (extract(day FROM month) = 1),
    state          text NOT NULL DEFAULT 'open' CHECK (state IN
                       ('open', 'sealing', 'sealed', 'exported', 'verified', 'detached', 'dropped', 'restored')),
    revision       bigint NOT NULL DEFAULT 1, -- raised with each change; their sum tells a reader that its list is old
    first_position bigint,
    last_position  bigint,
    row_count      bigint,
    bytes          bigint,
    digest         bytea,
    archive        text,
    changed_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE {{schema}}.months IS 'The month registry: a row commits with the partition it names. Positions, counts and digest stand once a month is sealed.';

CREATE TABLE {{schema}}.settled (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    position   bigint NOT NULL,
    settled_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO {{schema}}.settled (position) VALUES (0);
COMMENT ON TABLE {{schema}}.settled IS 'A settled position for readers that cannot see fences: stricter isolation and standbys.';

CREATE TABLE {{schema}}.settings (
    name  text PRIMARY KEY,
    value text NOT NULL
);
COMMENT ON TABLE {{schema}}.settings IS 'test_clock = on lets appends bring their own time. Tests only.';

CREATE FUNCTION {{schema}}.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the event log is append-only: % on %.% refused', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'HS002';
END $$;

-- A row trigger is cloned to every leaf by ATTACH; a statement trigger is not, so ensure_month adds TRUNCATE's.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {{schema}}.events
    FOR EACH ROW EXECUTE FUNCTION {{schema}}.refuse_change();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON {{schema}}.events
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.refuse_change();

-- make_leaf makes the table of a month (any day of it), not yet a partition: for ensure_month, and for what was archived.
CREATE FUNCTION {{schema}}.make_leaf(p_month date) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    v_from date := date_trunc('month', p_month::timestamp)::date;
    v_to   date := (date_trunc('month', p_month::timestamp) + interval '1 month')::date;
    v_leaf text := 'events_' || to_char(v_from, 'YYYY_MM');
BEGIN
    EXECUTE format(
        'CREATE TABLE {{schema}}.%1$I (LIKE {{schema}}.events INCLUDING ALL EXCLUDING INDEXES,'
        ' CONSTRAINT %2$I CHECK (recorded_at >= %3$L AND recorded_at < %4$L))',
        v_leaf, v_leaf || '_month_check', v_from::timestamptz, v_to::timestamptz);
    EXECUTE format('CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON {{schema}}.%I'
        ' FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.refuse_change()', v_leaf);
END $$;
REVOKE EXECUTE ON FUNCTION {{schema}}.make_leaf(date) FROM PUBLIC;

-- key_leaf gives a month's table its keys: of rows that are there already, they are built faster than kept row by row.
CREATE FUNCTION {{schema}}.key_leaf(p_month date) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    v_leaf text := 'events_' || to_char(p_month, 'YYYY_MM');
BEGIN
    EXECUTE format('ALTER TABLE {{schema}}.%1$I ADD CONSTRAINT %2$I UNIQUE (stream_id, version),'
        ' ADD CONSTRAINT %3$I UNIQUE (position), ADD CONSTRAINT %4$I UNIQUE (event_id)',
        v_leaf, v_leaf || '_version_key', v_leaf || '_position_key', v_leaf || '_event_id_key');
END $$;
REVOKE EXECUTE ON FUNCTION {{schema}}.key_leaf(date) FROM PUBLIC;

-- attach_leaf makes a month's table a partition. ATTACH lets appenders go on, which PARTITION OF would not. Readers go to the leaf
-- itself, so it gets the parent's readers of now.
CREATE FUNCTION {{schema}}.attach_leaf(p_month date) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    v_leaf text := 'events_' || to_char(p_month, 'YYYY_MM');
    v_role text;
BEGIN
    PERFORM pg_advisory_xact_lock('{{schema}}.months'::regclass::oid::bigint);
    FOR v_role IN
        SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
          FROM pg_class c, aclexplode(c.relacl) AS a
         WHERE c.oid = '{{schema}}.events'::regclass AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT SELECT ON {{schema}}.%I TO %s', v_leaf, v_role);
    END LOOP;
    EXECUTE format('ALTER TABLE {{schema}}.events ATTACH PARTITION {{schema}}.%I FOR VALUES FROM (%L) TO (%L)',
        v_leaf, date_trunc('month', p_month::timestamp)::timestamptz,
        (date_trunc('month', p_month::timestamp) + interval '1 month')::timestamptz);
END $$;
REVOKE EXECUTE ON FUNCTION {{schema}}.attach_leaf(date) FROM PUBLIC;

-- ensure_month makes the partition of a month (any day of it) and its registry row; it returns whether it did.
-- lock_timeout: nobody waits for it longer than that.
CREATE FUNCTION {{schema}}.ensure_month(p_month date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' SET timezone = 'UTC' AS $$
DECLARE
    v_from date := date_trunc('month', p_month::timestamp)::date;
BEGIN
    IF EXISTS (SELECT FROM {{schema}}.months WHERE month = v_from) THEN
        RETURN false;
    END IF;
    IF (v_from < (now() - interval '1 month 1 day')::date OR v_from > (now() + interval '13 months')::date)
       AND NOT EXISTS (SELECT FROM {{schema}}.settings WHERE name = 'test_clock' AND value = 'on') THEN
        RAISE EXCEPTION 'month % is not near the clock', to_char(v_from, 'YYYY-MM') USING ERRCODE = 'HS003';
    END IF;
    -- One maker at a time; the loser finds the row in the next statement's snapshot.
    PERFORM pg_advisory_xact_lock('{{schema}}.months'::regclass::oid::bigint);
    IF EXISTS (SELECT FROM {{schema}}.months WHERE month = v_from) THEN
        RETURN false;
    END IF;
    IF to_regclass('{{schema}}.events_' || to_char(v_from, 'YYYY_MM')) IS NOT NULL THEN -- made after this transaction's snapshot
        RAISE EXCEPTION 'month % was made meanwhile', to_char(v_from, 'YYYY-MM') USING ERRCODE = 'serialization_failure';
    END IF;
    PERFORM {{schema}}.make_leaf(v_from);
    PERFORM {{schema}}.key_leaf(v_from);
    PERFORM {{schema}}.attach_leaf(v_from);
    INSERT INTO {{schema}}.months (month) VALUES (v_from);
    RETURN true;
END $$;
REVOKE EXECUTE ON FUNCTION {{schema}}.ensure_month(date) FROM PUBLIC; -- it writes with its owner's rights: a GRANT says who may

SELECT {{schema}}.ensure_month((now() AT TIME ZONE 'UTC')::date),
       {{schema}}.ensure_month((now() AT TIME ZONE 'UTC' + interval '1 month')::date);
