-- The event log: head rows, events by UTC month, the month registry, the settled row, and the functions that
-- write and bound them. eventstore/doc.go tells the protocol; the comments here say why each line is where it is.

CREATE TABLE {{schema}}.streams (
    stream_id         text COLLATE "C" PRIMARY KEY,
    category          text COLLATE "C" NOT NULL GENERATED ALWAYS AS (split_part(stream_id, '-', 1)) STORED,
    project_id        text COLLATE "C",
    version           bigint NOT NULL CHECK (version > 0),
    first_recorded_at timestamptz NOT NULL,
    last_recorded_at  timestamptz NOT NULL
) WITH (fillfactor = 70); -- room for HOT updates: every append updates its head row
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

-- ensure_month makes the partition of a month (any day of it) and its registry row; it returns whether it did.
-- ATTACH lets appenders go on, which PARTITION OF would not. lock_timeout: nobody waits for it longer than that.
-- Readers go to the leaf itself, so it gets the parent's readers.
CREATE FUNCTION {{schema}}.ensure_month(p_month date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' SET timezone = 'UTC' AS $$
DECLARE
    v_from date := date_trunc('month', p_month::timestamp)::date;
    v_to   date := (date_trunc('month', p_month::timestamp) + interval '1 month')::date;
    v_leaf text := 'events_' || to_char(v_from, 'YYYY_MM');
    v_role text;
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
    IF to_regclass('{{schema}}.' || v_leaf) IS NOT NULL THEN -- made after this transaction's snapshot
        RAISE EXCEPTION 'month % was made meanwhile', to_char(v_from, 'YYYY-MM') USING ERRCODE = 'serialization_failure';
    END IF;
    EXECUTE format(
        'CREATE TABLE {{schema}}.%1$I (LIKE {{schema}}.events INCLUDING ALL EXCLUDING INDEXES,'
        ' CONSTRAINT %2$I UNIQUE (stream_id, version), CONSTRAINT %3$I UNIQUE (position), CONSTRAINT %4$I UNIQUE (event_id),'
        ' CONSTRAINT %5$I CHECK (recorded_at >= %6$L AND recorded_at < %7$L))',
        v_leaf, v_leaf || '_version_key', v_leaf || '_position_key', v_leaf || '_event_id_key', v_leaf || '_month_check',
        v_from::timestamptz, v_to::timestamptz);
    EXECUTE format('CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON {{schema}}.%I'
        ' FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.refuse_change()', v_leaf);
    EXECUTE format('ALTER TABLE {{schema}}.events ATTACH PARTITION {{schema}}.%I FOR VALUES FROM (%L) TO (%L)',
        v_leaf, v_from::timestamptz, v_to::timestamptz);
    FOR v_role IN
        SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
          FROM pg_class c, aclexplode(c.relacl) AS a
         WHERE c.oid = '{{schema}}.events'::regclass AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT SELECT ON {{schema}}.%I TO %s', v_leaf, v_role);
    END LOOP;
    INSERT INTO {{schema}}.months (month) VALUES (v_from);
    RETURN true;
END $$;

-- last_position is the last position taken, 0 before the first. It must not be read with SELECT last_value: nextval
-- writes the value it logs, 32 ahead, into the tuple before the true one, and a plain scan can see that (it did).
-- pg_sequence_last_value reads under the buffer's lock. SECURITY DEFINER: PostgreSQL 18 answers NULL to a role without a
-- right to the sequence, and an empty log would be a lie.
CREATE FUNCTION {{schema}}.last_position() RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ SELECT coalesce(pg_catalog.pg_sequence_last_value('{{schema}}.events_position_seq'::regclass), 0) $$;

-- The fence is an advisory lock of two keys: a class from the sequence's oid, so that two logs in one database never
-- bound each other, and the low 32 bits of last(seq) as a signed integer.
CREATE FUNCTION {{schema}}.fence_key(bigint) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT ((($1 + 2147483648) & 4294967295) - 2147483648)::integer $$;
CREATE FUNCTION {{schema}}.fence_class() RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT {{schema}}.fence_key('{{schema}}.events_position_seq'::regclass::oid::bigint) $$;

-- append writes the events of one stream, or nothing, and says which. Its order is the protocol (doc.go): head row,
-- recorded_at, fence, month, nextval, insert. p_expected: N > 0 exactly N, 0 no stream, -1 stream exists, -2 any.
-- outcome: appended | conflict | clock | month_missing | month_closed; all but the first leave nothing written.
CREATE FUNCTION {{schema}}.append(
    p_stream text, p_expected bigint, p_project text,
    p_ids uuid[], p_types text[], p_schema_versions integer[], p_occurred timestamptz[], p_data text[], p_metadata text[],
    p_max_skew interval, p_now timestamptz,
    OUT outcome text, OUT o_version bigint, OUT o_recorded_at timestamptz, OUT o_positions bigint[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_seq   constant oid  := '{{schema}}.events_position_seq'::regclass;
    c_fence constant text := 'hindsight.fence_' || c_seq;
    v_count constant integer := cardinality(p_ids);
    v_created boolean := false;
    v_last    bigint;
    v_state   text;
BEGIN
    IF p_now IS NOT NULL AND NOT EXISTS (SELECT FROM {{schema}}.settings WHERE name = 'test_clock' AND value = 'on') THEN
        RAISE EXCEPTION 'this log takes no time but its own' USING ERRCODE = 'HS004';
    END IF;

    -- Head row: a plain UPDATE leaves a loser without the row's lock.
    IF p_expected > 0 THEN
        UPDATE {{schema}}.streams s
           SET version = s.version + v_count, last_recorded_at = greatest(s.last_recorded_at, coalesce(p_now, clock_timestamp()))
         WHERE s.stream_id = p_stream AND s.version = p_expected
        RETURNING s.version, s.last_recorded_at INTO o_version, o_recorded_at;
    ELSIF p_expected = -1 THEN
        UPDATE {{schema}}.streams s
           SET version = s.version + v_count, last_recorded_at = greatest(s.last_recorded_at, coalesce(p_now, clock_timestamp()))
         WHERE s.stream_id = p_stream
        RETURNING s.version, s.last_recorded_at INTO o_version, o_recorded_at;
    ELSIF p_expected = 0 THEN
        INSERT INTO {{schema}}.streams AS s (stream_id, project_id, version, first_recorded_at, last_recorded_at)
        SELECT p_stream, p_project, v_count, t, t FROM (SELECT coalesce(p_now, clock_timestamp()) AS t OFFSET 0) AS clock
        ON CONFLICT (stream_id) DO NOTHING
        RETURNING s.version, s.last_recorded_at, true INTO o_version, o_recorded_at, v_created;
    ELSIF p_expected = -2 THEN
        INSERT INTO {{schema}}.streams AS s (stream_id, project_id, version, first_recorded_at, last_recorded_at)
        SELECT p_stream, p_project, v_count, t, t FROM (SELECT coalesce(p_now, clock_timestamp()) AS t OFFSET 0) AS clock
        ON CONFLICT (stream_id) DO UPDATE
           SET version = s.version + v_count, last_recorded_at = greatest(s.last_recorded_at, coalesce(p_now, clock_timestamp()))
        RETURNING s.version, s.last_recorded_at, s.version = v_count INTO o_version, o_recorded_at, v_created;
    ELSE
        RAISE EXCEPTION 'expected version % means nothing', p_expected USING ERRCODE = '22023';
    END IF;
    IF o_version IS NULL THEN
        outcome := 'conflict';
        SELECT s.version INTO o_version FROM {{schema}}.streams s WHERE s.stream_id = p_stream;
        RETURN;
    END IF;

    IF o_recorded_at > coalesce(p_now, clock_timestamp()) + p_max_skew THEN
        outcome := 'clock';
    ELSE
        -- Fence, once a transaction: last(seq) is read, then locked, and only then does anything call nextval.
        v_last := nullif(current_setting(c_fence, true), '')::bigint;
        IF v_last IS NULL THEN
            v_last := {{schema}}.last_position();
            PERFORM pg_advisory_xact_lock_shared({{schema}}.fence_class(), {{schema}}.fence_key(v_last));
            PERFORM set_config(c_fence, v_last::text, true);
        END IF;
        -- Month, after the fence: a sealer that marks it waits for the fences in flight.
        SELECT m.state INTO v_state FROM {{schema}}.months m
         WHERE m.month = date_trunc('month', o_recorded_at AT TIME ZONE 'UTC')::date;
        IF v_state IS NULL THEN
            outcome := 'month_missing';
        ELSIF v_state <> 'open' THEN
            outcome := 'month_closed';
        END IF;
    END IF;
    IF outcome IS NOT NULL THEN -- put the head back as it was; no position was taken
        IF v_created THEN
            DELETE FROM {{schema}}.streams s WHERE s.stream_id = p_stream;
        ELSE
            UPDATE {{schema}}.streams s
               SET version = s.version - v_count,
                   last_recorded_at = coalesce((SELECT e.recorded_at FROM {{schema}}.events e
                       WHERE e.stream_id = p_stream AND e.version = s.version - v_count), s.last_recorded_at)
             WHERE s.stream_id = p_stream;
        END IF;
        RETURN;
    END IF;

    SELECT array_agg(nextval('{{schema}}.events_position_seq')) INTO o_positions FROM generate_series(1, v_count);
    IF o_positions[1] <= v_last THEN -- CACHE > 1, a reset sequence, setval
        RAISE EXCEPTION 'position % is not above the fence at %', o_positions[1], v_last USING ERRCODE = 'HS001';
    END IF;
    INSERT INTO {{schema}}.events (position, recorded_at, stream_id, version, event_id, event_type, schema_version,
                                   occurred_at, event_data, metadata)
    SELECT e.position, o_recorded_at, p_stream, o_version - v_count + e.n, e.id, e.type, e.schema_version,
           coalesce(e.occurred, o_recorded_at), e.data::json, e.metadata::json
      FROM unnest(o_positions, p_ids, p_types, p_schema_versions, p_occurred, p_data, p_metadata)
           WITH ORDINALITY AS e (position, id, type, schema_version, occurred, data, metadata, n);
    outcome := 'appended';
END $$;

-- settled_position: (1) last(seq), (2) then the fences in flight. The caller reads events in a statement of its own
-- afterwards: never inline this into a query, a CTE would read all three in one snapshot. p_cursor is the position of a
-- committed event the caller has read; where nothing was taken since, the fences need not be asked.
-- o_last is NULL where the stored row had to serve. The settled position also stands in hindsight.settled for this transaction.
CREATE FUNCTION {{schema}}.settled_position(
    p_cursor bigint,
    OUT o_settled bigint, OUT o_last bigint, OUT o_months bigint, OUT o_server_started timestamptz)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_is_in_recovery() OR current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
        SELECT s.position INTO o_settled FROM {{schema}}.settled s;
    ELSE
        o_last := {{schema}}.last_position();
        o_settled := o_last;
        IF p_cursor <> o_last THEN
            SELECT o_last + coalesce(min(d.behind) FILTER (WHERE d.behind <= 0), 0) INTO o_settled
              FROM (SELECT {{schema}}.fence_key(l.objid::bigint - o_last) AS behind
                      FROM pg_locks l
                     WHERE l.locktype = 'advisory' AND l.objsubid = 2
                       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                       AND l.classid = '{{schema}}.events_position_seq'::regclass::oid) AS d;
        END IF;
    END IF;
    SELECT coalesce(sum(m.revision), 0) INTO o_months FROM {{schema}}.months m; -- after the settled position, never before
    o_server_started := pg_postmaster_start_time();
    PERFORM set_config('hindsight.settled', o_settled::text, true);
END $$;

-- settle stores the settled position for readers that need the stored row, and returns it. It never goes back. It needs
-- READ COMMITTED itself.
CREATE FUNCTION {{schema}}.settle() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    v_settled bigint;
BEGIN
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
        RAISE EXCEPTION 'fences can only be seen in READ COMMITTED' USING ERRCODE = 'HS005';
    END IF;
    SELECT p.o_settled INTO v_settled FROM {{schema}}.settled_position(-1) p;
    UPDATE {{schema}}.settled s SET position = greatest(s.position, v_settled), settled_at = clock_timestamp()
     WHERE s.position < v_settled;
    RETURN v_settled;
END $$;

-- These write with their owner's rights: whoever may, is told so by a GRANT.
REVOKE EXECUTE ON FUNCTION
    {{schema}}.append(text, bigint, text, uuid[], text[], integer[], timestamptz[], text[], text[], interval, timestamptz),
    {{schema}}.ensure_month(date), {{schema}}.settle() FROM PUBLIC;

SELECT {{schema}}.ensure_month((now() AT TIME ZONE 'UTC')::date),
       {{schema}}.ensure_month((now() AT TIME ZONE 'UTC' + interval '1 month')::date);
