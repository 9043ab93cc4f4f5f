-- Appending: the fence, and the functions that write.

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
REVOKE EXECUTE ON FUNCTION
    {{schema}}.append(text, bigint, text, uuid[], text[], integer[], timestamptz[], text[], text[], interval, timestamptz) FROM PUBLIC;
