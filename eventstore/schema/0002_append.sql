-- Appending: the fence, and the functions that write. Their numbered steps are the protocol of eventstore/doc.go.

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

-- take_fence reads last(seq), locks it, and returns it; only then may its caller call nextval. With p_once a transaction has
-- one fence, at its first L, which a setting remembers: many would exhaust the lock table. The setting dies with the lock, at
-- a savepoint's rollback too. It is not believed, but locked again, which costs nothing where it is held: whoever sets it
-- too low holds readers back, too high fails above_fence. Callers run it with their owner's rights and search_path.
CREATE FUNCTION {{schema}}.take_fence(p_once boolean) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    c_seq   constant regclass := '{{schema}}.events_position_seq';
    c_fence constant text := 'hindsight.fence_' || c_seq::oid;
    v_last bigint;
    v_done text; -- an assignment of a plain expression costs a tenth of a PERFORM
BEGIN
    IF p_once THEN
        v_last := nullif(current_setting(c_fence, true), '');
    END IF;
    IF v_last IS NULL THEN
        v_last := coalesce(pg_sequence_last_value(c_seq), 0);
        IF p_once THEN
            v_done := set_config(c_fence, v_last::text, true);
        END IF;
    END IF;
    v_done := pg_advisory_xact_lock_shared({{schema}}.fence_class(), {{schema}}.fence_key(v_last));
    RETURN v_last;
END $$;

-- An append's answer. outcome: appended | repeated | partial | conflict | clock | month_missing | month_closed | race; after
-- all but the first nothing of the append is written. version is that of the last event, at a conflict the stream's.
CREATE TYPE {{schema}}.append_answer AS (outcome text, version bigint, recorded_at timestamptz, positions bigint[]);

-- above_fence returns a position, or fails if it is not above its transaction's fence: CACHE > 1, a reset sequence, setval.
CREATE FUNCTION {{schema}}.above_fence(p_position bigint, p_fence bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF p_position <= p_fence THEN
        RAISE EXCEPTION 'position % is not above the fence at %', p_position, p_fence USING ERRCODE = 'HS001';
    END IF;
    RETURN p_position;
END $$;

-- own_clock refuses a client's time, except in the log of a test.
CREATE FUNCTION {{schema}}.own_clock(p_now timestamptz) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF p_now IS NOT NULL AND NOT EXISTS (SELECT FROM {{schema}}.settings WHERE name = 'test_clock' AND value = 'on') THEN
        RAISE EXCEPTION 'this log takes no time but its own' USING ERRCODE = 'HS004';
    END IF;
    RETURN p_now;
END $$;

-- first_answer looks for event ids in a stream: at the versions after p_after, or anywhere where that is NULL. If all of
-- them stand there, in this order and in a row, recorded at once, an append is being repeated, and the answer is its first;
-- 'partial' if only some do, NULL if none.
CREATE FUNCTION {{schema}}.first_answer(p_stream text, p_ids uuid[], p_after bigint) RETURNS {{schema}}.append_answer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_answer {{schema}}.append_answer;
BEGIN
    SELECT CASE WHEN count(*) = 0 THEN NULL
                WHEN count(*) = cardinality(p_ids) AND min(e.version - i.n) = max(e.version - i.n)
                     AND min(e.recorded_at) = max(e.recorded_at) THEN 'repeated'
                ELSE 'partial' END,
           max(e.version), max(e.recorded_at), array_agg(e.position ORDER BY i.n)
      INTO v_answer
      FROM {{schema}}.streams s
     CROSS JOIN unnest(p_ids) WITH ORDINALITY AS i (id, n)
      JOIN {{schema}}.events e ON e.event_id = i.id AND e.stream_id = s.stream_id
           AND e.recorded_at >= s.first_recorded_at AND e.recorded_at <= s.last_recorded_at
     WHERE s.stream_id = p_stream AND (p_after IS NULL OR e.version = p_after + i.n);
    RETURN v_answer;
END $$;

-- append writes the events of one stream, or nothing, and says which. p_expected: N > 0 exactly N, 0 no stream, -1 stream
-- exists, -2 any. p_ids_since is not after the first of the ids was made. p_in_tx says that the transaction has more to do,
-- and must not be lost. p_now is a test's clock. It is one function, as a call within would cost a tenth of it.
CREATE FUNCTION {{schema}}.append(
    p_stream text, p_expected bigint, p_project text,
    p_ids uuid[], p_types text[], p_schema_versions integer[], p_occurred timestamptz[], p_data text[], p_metadata text[],
    p_ids_since timestamptz, p_in_tx boolean, p_max_skew interval, p_now timestamptz)
RETURNS {{schema}}.append_answer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_count constant integer := cardinality(p_ids);
    v_version  bigint;
    v_at       timestamptz;
    v_begun    timestamptz; -- when the stream began; NULL if it does now
    v_month    timestamp;
    v_fence    bigint;
    v_position bigint;
    v_first    {{schema}}.append_answer;
    v_outcome  text;
BEGIN
    IF p_now IS NOT NULL THEN
        p_now := {{schema}}.own_clock(p_now);
    END IF;
    -- 1 head: a plain UPDATE leaves a loser without the row's lock.
    IF p_expected > 0 THEN
        UPDATE {{schema}}.streams s
           SET version = s.version + v_count, last_recorded_at = greatest(s.last_recorded_at, coalesce(p_now, clock_timestamp()))
         WHERE s.stream_id = p_stream AND s.version = p_expected
        RETURNING s.version, s.last_recorded_at, s.first_recorded_at INTO v_version, v_at, v_begun;
    ELSIF p_expected = -1 THEN
        UPDATE {{schema}}.streams s
           SET version = s.version + v_count, last_recorded_at = greatest(s.last_recorded_at, coalesce(p_now, clock_timestamp()))
         WHERE s.stream_id = p_stream
        RETURNING s.version, s.last_recorded_at, s.first_recorded_at INTO v_version, v_at, v_begun;
    ELSIF p_expected = 0 THEN
        INSERT INTO {{schema}}.streams AS s (stream_id, project_id, version, first_recorded_at, last_recorded_at)
        SELECT p_stream, p_project, v_count, t, t FROM (SELECT coalesce(p_now, clock_timestamp()) AS t OFFSET 0) AS clock
        ON CONFLICT (stream_id) DO NOTHING
        RETURNING s.version, s.last_recorded_at INTO v_version, v_at;
    ELSIF p_expected = -2 THEN
        INSERT INTO {{schema}}.streams AS s (stream_id, project_id, version, first_recorded_at, last_recorded_at)
        SELECT p_stream, p_project, v_count, t, t FROM (SELECT coalesce(p_now, clock_timestamp()) AS t OFFSET 0) AS clock
        ON CONFLICT (stream_id) DO UPDATE
           SET version = s.version + v_count, last_recorded_at = greatest(s.last_recorded_at, coalesce(p_now, clock_timestamp()))
        RETURNING s.version, s.last_recorded_at, CASE WHEN s.version > v_count THEN s.first_recorded_at END
             INTO v_version, v_at, v_begun;
    ELSE
        RAISE EXCEPTION 'expected version % means nothing', p_expected USING ERRCODE = '22023';
    END IF;
    IF v_version IS NULL THEN -- a conflict, or a repeated append
        IF p_expected >= 0 THEN
            v_first := {{schema}}.first_answer(p_stream, p_ids, p_expected);
            IF v_first.outcome IS NOT NULL THEN
                RETURN v_first;
            END IF;
        END IF;
        -- A stream that has come to where it was expected since step 1 is no conflict.
        SELECT s.version INTO v_version FROM {{schema}}.streams s WHERE s.stream_id = p_stream;
        RETURN ROW(CASE WHEN v_version = p_expected OR p_expected = -1 AND v_version > 0 THEN 'race' ELSE 'conflict' END,
                   v_version, NULL, NULL)::{{schema}}.append_answer;
    END IF;

    -- 2 recorded_at
    v_month := date_trunc('month', v_at AT TIME ZONE 'UTC');
    IF v_at > coalesce(p_now, clock_timestamp()) + p_max_skew THEN
        v_outcome := 'clock';
    ELSIF v_begun IS NOT NULL AND (p_ids_since < v_month AT TIME ZONE 'UTC' AND v_begun < v_month AT TIME ZONE 'UTC'
                                   OR p_in_tx AND p_expected < 0) THEN
        -- The leaf's unique ids catch a repeated append of this month, at the price of the transaction; those of earlier
        -- months, and a caller's transaction, are asked for.
        v_first := {{schema}}.first_answer(p_stream, p_ids, NULL);
        v_outcome := v_first.outcome;
    END IF;
    IF v_outcome IS NULL THEN
        -- 3 fence
        v_fence := {{schema}}.take_fence(p_in_tx);
        -- 4 month, after the fence: a sealer that marks it waits for the fences in flight. A transaction that goes on must not
        -- touch events before its month is there: it would not see the leaf that is made beside it.
        IF v_count = 1 AND NOT p_in_tx THEN -- in one statement: where the month is not open, nextval is not reached
            INSERT INTO {{schema}}.events (position, recorded_at, stream_id, version, event_id, event_type, schema_version,
                                           occurred_at, event_data, metadata)
            SELECT nextval('{{schema}}.events_position_seq'), v_at, p_stream, v_version, p_ids[1], p_types[1],
                   p_schema_versions[1], coalesce(p_occurred[1], v_at), p_data[1]::json, p_metadata[1]::json
              FROM {{schema}}.months m WHERE m.month = v_month::date AND m.state = 'open'
            RETURNING position INTO v_position;
            IF v_position IS NOT NULL THEN
                RETURN ROW('appended', v_version, v_at, ARRAY[{{schema}}.above_fence(v_position, v_fence)])::{{schema}}.append_answer;
            END IF;
        ELSIF EXISTS (SELECT FROM {{schema}}.months m WHERE m.month = v_month::date AND m.state = 'open') THEN
            RETURN ROW('appended', v_version, v_at, {{schema}}.insert_events(v_fence, v_at, ARRAY[p_stream], ARRAY[v_version - v_count],
                array_fill(1, ARRAY[v_count]), p_ids, p_types, p_schema_versions, p_occurred, p_data, p_metadata))::{{schema}}.append_answer;
        END IF;
        -- A month that was made since step 4 is missing no longer, but not closed.
        v_outcome := CASE WHEN EXISTS (SELECT FROM {{schema}}.months m WHERE m.month = v_month::date AND m.state <> 'open')
                          THEN 'month_closed' ELSE 'month_missing' END;
    END IF;

    -- Put the head back as it was; no position was taken.
    IF v_begun IS NULL THEN
        DELETE FROM {{schema}}.streams s WHERE s.stream_id = p_stream;
    ELSE
        UPDATE {{schema}}.streams s
           SET version = s.version - v_count,
               last_recorded_at = coalesce((SELECT e.recorded_at FROM {{schema}}.events e
                   WHERE e.stream_id = p_stream AND e.version = s.version - v_count), s.last_recorded_at)
         WHERE s.stream_id = p_stream;
    END IF;
    IF v_first.outcome IS NOT NULL THEN
        RETURN v_first;
    END IF;
    RETURN ROW(v_outcome, NULL, v_at, NULL)::{{schema}}.append_answer;
END $$;

-- append_at is append at a time that append_many has chosen. Nobody else may call it.
DO $$
BEGIN
    EXECUTE regexp_replace(replace(pg_get_functiondef('{{schema}}.append'::regproc), '{{schema}}.own_clock(p_now)', 'p_now'),
        '\.append\(', '.append_at(');
END $$;

-- insert_events writes events, each at the next position, in their order, and returns the positions. p_of names the stream of
-- each among p_streams, whose events stand together: the n-th event of all has version p_offsets + n. Those of a stream
-- whose offset is NULL are left out.
CREATE FUNCTION {{schema}}.insert_events(
    p_fence bigint, p_recorded_at timestamptz, p_streams text[], p_offsets bigint[], p_of integer[],
    p_ids uuid[], p_types text[], p_schema_versions integer[], p_occurred timestamptz[], p_data text[], p_metadata text[])
RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    v_positions bigint[];
BEGIN
    WITH written AS (
        INSERT INTO {{schema}}.events (position, recorded_at, stream_id, version, event_id, event_type, schema_version,
                                       occurred_at, event_data, metadata)
        SELECT nextval('{{schema}}.events_position_seq'), p_recorded_at, p_streams[e.of], p_offsets[e.of] + e.n, e.id, e.type,
               e.schema_version, coalesce(e.occurred, p_recorded_at), e.data::json, e.metadata::json
          FROM unnest(p_of, p_ids, p_types, p_schema_versions, p_occurred, p_data, p_metadata)
               WITH ORDINALITY AS e (of, id, type, schema_version, occurred, data, metadata, n)
         WHERE p_offsets[e.of] IS NOT NULL
        RETURNING position)
    SELECT array_agg(w.position) INTO v_positions FROM written w;
    p_fence := {{schema}}.above_fence(v_positions[1], p_fence);
    RETURN v_positions;
END $$;

-- append_many writes to several different streams, sorted, all or nothing. p_counts says how many of the events, which
-- stand in the streams' order, belong to each. It answers for each stream, or up to the first that was refused.
CREATE FUNCTION {{schema}}.append_many(
    p_streams text[], p_expected bigint[], p_projects text[], p_counts integer[],
    p_ids uuid[], p_types text[], p_schema_versions integer[], p_occurred timestamptz[], p_data text[], p_metadata text[],
    p_ids_since timestamptz, p_max_skew interval, p_now timestamptz)
RETURNS SETOF {{schema}}.append_answer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_latest  timestamptz;
    v_at      timestamptz;
    v_from    integer := 1;
    v_to      integer;
    v_answer  {{schema}}.append_answer;
    v_answers {{schema}}.append_answer[];
BEGIN
    BEGIN -- a subtransaction: what a refusal finds written goes in one piece, with its locks
        -- The heads that are there, in stream order; then one time for all of them, in one month.
        SELECT max(h.last_recorded_at) INTO v_latest
          FROM (SELECT s.last_recorded_at FROM {{schema}}.streams s WHERE s.stream_id = ANY (p_streams) ORDER BY s.stream_id FOR UPDATE) AS h;
        v_at := greatest(coalesce({{schema}}.own_clock(p_now), clock_timestamp()), v_latest);
        FOR i IN 1 .. cardinality(p_streams) LOOP
            v_to := v_from + p_counts[i] - 1;
            IF v_at > coalesce(p_now, clock_timestamp()) + p_max_skew THEN
                v_answer := ROW('clock', NULL, v_at, NULL);
            ELSE
                v_answer := {{schema}}.append_at(p_streams[i], p_expected[i], p_projects[i], p_ids[v_from:v_to], p_types[v_from:v_to],
                    p_schema_versions[v_from:v_to], p_occurred[v_from:v_to], p_data[v_from:v_to], p_metadata[v_from:v_to],
                    p_ids_since, true, p_max_skew, v_at);
            END IF;
            IF v_answer.outcome = 'appended' AND v_answer.recorded_at <> v_at THEN
                v_answer.outcome := 'race'; -- somebody else has begun the stream since
            END IF;
            v_answers := v_answers || v_answer;
            IF v_answer.outcome NOT IN ('appended', 'repeated') OR v_answer.outcome <> v_answers[1].outcome THEN
                RAISE EXCEPTION USING ERRCODE = 'HS006', MESSAGE = 'not all of the streams';
            END IF;
            v_from := v_to + 1;
        END LOOP;
    EXCEPTION WHEN SQLSTATE 'HS006' THEN
    END;
    RETURN QUERY SELECT * FROM unnest(v_answers);
END $$;

-- append_group writes to several different streams, sorted, each by itself. It serves those whose heads it need not wait for
-- and that are where their appends expect them. o_heads is the version that each of them went on from, NULL for the others:
-- each of those goes alone, which finds out why. o_positions are of those that were served. p_before counts the events
-- that stand before each stream's own.
-- Its plans are made once, whatever the sizes were then: a nested loop over the heads' index.
CREATE FUNCTION {{schema}}.append_group(
    p_streams text[], p_expected bigint[], p_projects text[], p_counts integer[], p_before integer[], p_of integer[],
    p_ids uuid[], p_types text[], p_schema_versions integer[], p_occurred timestamptz[], p_data text[], p_metadata text[],
    p_ids_since timestamptz, p_now timestamptz,
    OUT o_heads bigint[], OUT o_recorded_at timestamptz, OUT o_positions bigint[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' -- for heads that others begin
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_month timestamptz;
    v_since boolean; -- some id may have been used in an earlier month
    v_found integer[];
    v_heads bigint[];
    v_fence bigint;
BEGIN
    -- 1 head, 2 recorded_at: who is ahead of this clock, or may be repeating an append of another month, goes alone.
    o_recorded_at := coalesce({{schema}}.own_clock(p_now), clock_timestamp());
    v_month := date_trunc('month', o_recorded_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    v_since := p_ids_since < v_month;
    WITH moved AS (
        UPDATE {{schema}}.streams s SET version = r.version + r.count, last_recorded_at = o_recorded_at
          FROM (SELECT h.stream_id, h.version, r.count, r.n
                  FROM unnest(p_streams, p_expected, p_counts) WITH ORDINALITY AS r (stream, expected, count, n)
                 CROSS JOIN LATERAL (SELECT * FROM {{schema}}.streams s WHERE s.stream_id = r.stream FOR UPDATE SKIP LOCKED) AS h
                 WHERE (r.expected = h.version OR r.expected < 0) AND h.last_recorded_at <= o_recorded_at
                   AND NOT (v_since AND h.first_recorded_at < v_month)) AS r
         WHERE s.stream_id = r.stream_id
        RETURNING r.n::integer, r.version)
    SELECT array_agg(m.n), array_agg(m.version) INTO v_found, v_heads FROM moved m;
    o_heads := array_fill(NULL::bigint, ARRAY[cardinality(p_streams)]);
    FOR i IN 1 .. coalesce(cardinality(v_found), 0) LOOP
        o_heads[v_found[i]] := v_heads[i];
    END LOOP;
    IF cardinality(v_found) IS DISTINCT FROM cardinality(p_streams) AND (0 = ANY (p_expected) OR -2 = ANY (p_expected)) THEN
        WITH made AS (
            INSERT INTO {{schema}}.streams AS s (stream_id, project_id, version, first_recorded_at, last_recorded_at)
            SELECT r.stream, r.project, r.count, o_recorded_at, o_recorded_at
              FROM unnest(p_streams, p_projects, p_counts, p_expected, o_heads) AS r (stream, project, count, expected, head)
             WHERE r.head IS NULL AND r.expected IN (0, -2)
            ON CONFLICT (stream_id) DO NOTHING
            RETURNING s.stream_id)
        SELECT array_agg(CASE WHEN r.head IS NULL AND r.stream IN (SELECT m.stream_id FROM made m) THEN 0 ELSE r.head END ORDER BY r.n)
          INTO o_heads FROM unnest(p_streams, o_heads) WITH ORDINALITY AS r (stream, head, n);
    END IF;
    IF (0 <= ANY (o_heads)) IS NOT TRUE THEN
        RETURN;
    END IF;
    -- 3 fence
    v_fence := {{schema}}.take_fence(false);
    -- 4 month
    IF NOT EXISTS (SELECT FROM {{schema}}.months m WHERE m.month = (v_month AT TIME ZONE 'UTC')::date AND m.state = 'open') THEN
        RAISE EXCEPTION 'the month is not open' USING ERRCODE = 'HS006'; -- each goes alone, and finds out why
    END IF;
    -- 5 positions, 6 insert
    FOR i IN 1 .. cardinality(o_heads) LOOP
        v_heads[i] := o_heads[i] - p_before[i];
    END LOOP;
    o_positions := {{schema}}.insert_events(v_fence, o_recorded_at, p_streams, v_heads,
        p_of, p_ids, p_types, p_schema_versions, p_occurred, p_data, p_metadata);
END $$;

-- These write with their owner's rights: whoever may, is told so by a GRANT.
REVOKE EXECUTE ON FUNCTION {{schema}}.append_at FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION
    {{schema}}.append(text, bigint, text, uuid[], text[], integer[], timestamptz[], text[], text[], timestamptz, boolean, interval, timestamptz),
    {{schema}}.append_many(text[], bigint[], text[], integer[], uuid[], text[], integer[], timestamptz[], text[], text[], timestamptz, interval, timestamptz),
    {{schema}}.append_group(text[], bigint[], text[], integer[], integer[], integer[], uuid[], text[], integer[], timestamptz[], text[], text[], timestamptz, timestamptz)
FROM PUBLIC;
