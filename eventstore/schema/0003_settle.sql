-- Settling: how far readers of the global log may go.

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
REVOKE EXECUTE ON FUNCTION {{schema}}.settle() FROM PUBLIC;
