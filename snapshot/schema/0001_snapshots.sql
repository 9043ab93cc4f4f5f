-- Snapshots of streams' states. They are a cache: any of them may be deleted at any time.
CREATE TABLE {{schema}}.snapshots (
    stream_id    text COLLATE "C" NOT NULL,
    fold         text COLLATE "C" NOT NULL,
    fold_version integer NOT NULL,
    format       integer NOT NULL,
    version      bigint NOT NULL, -- of the last event in the state
    event_id     uuid NOT NULL, -- of that event: a log restored from an older copy may hold another one there
    position     bigint NOT NULL,
    recorded_at  timestamptz NOT NULL, -- of that event
    occurred_to  timestamptz NOT NULL, -- the latest occurred_at of all events in the state
    state        text NOT NULL,
    digest       bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (stream_id, fold, fold_version, format, version)
);

-- A fold whose snapshots were found to differ from a fold from zero: none of that version and format is used or written again.
CREATE TABLE {{schema}}.snapshot_quarantine (
    fold         text COLLATE "C" NOT NULL,
    fold_version integer NOT NULL,
    format       integer NOT NULL,
    reason       text NOT NULL,
    since        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (fold, fold_version, format)
);

-- Moments say where the settled end of the log stood at a time. They make "what was known then" a fixed answer: it is what
-- was settled at the first moment after that time, whatever commits later.
CREATE TABLE {{schema}}.moments (
    at       timestamptz PRIMARY KEY,
    position bigint NOT NULL
);

-- moment_after returns the first moment after a time, and makes it if there is none yet. Later ones have later times. Where nothing
-- was settled since the last moment, that one moves: no time between them has been asked for yet.
CREATE FUNCTION {{schema}}.moment_after(p_time timestamptz) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    v_position bigint;
    v_last     record;
    v_at       timestamptz;
BEGIN
    SELECT m.position INTO v_position FROM {{schema}}.moments m WHERE m.at > p_time ORDER BY m.at LIMIT 1;
    IF v_position IS NOT NULL THEN
        RETURN v_position;
    END IF;
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN -- it would not see who was faster
        RAISE EXCEPTION 'a moment is made in READ COMMITTED' USING ERRCODE = 'active_sql_transaction';
    END IF;
    PERFORM pg_advisory_xact_lock('{{schema}}.moments'::regclass::oid::bigint); -- the next statement sees who was faster
    SELECT m.position INTO v_position FROM {{schema}}.moments m WHERE m.at > p_time ORDER BY m.at LIMIT 1;
    IF v_position IS NOT NULL THEN
        RETURN v_position;
    END IF;
    IF p_time >= clock_timestamp() THEN
        RETURN NULL;
    END IF;
    SELECT s.o_settled INTO v_position FROM {{schema}}.settled_position(-1) AS s;
    SELECT m.at, m.position INTO v_last FROM {{schema}}.moments m ORDER BY m.at DESC LIMIT 1;
    v_at := greatest(clock_timestamp(), v_last.at + interval '1 microsecond');
    IF v_last.position = v_position THEN
        UPDATE {{schema}}.moments m SET at = v_at WHERE m.at = v_last.at;
    ELSE
        INSERT INTO {{schema}}.moments (at, position) VALUES (v_at, v_position);
    END IF;
    RETURN v_position;
END $$;
