-- Bulk import (import.go): how far each import has come, what it left out, and the two things that plain SQL cannot do.
-- Nothing here writes events with its owner's rights: an import runs with those of its own role.

CREATE TABLE {{schema}}.imports (
    name       text COLLATE "C" PRIMARY KEY,
    bookmark   text NOT NULL DEFAULT '',
    events     bigint NOT NULL DEFAULT 0,
    existing   bigint NOT NULL DEFAULT 0,
    skipped    bigint NOT NULL DEFAULT 0,
    batches    bigint NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE  {{schema}}.imports IS 'How far each import has come; a row changes in the transaction that writes the events it counts.';
COMMENT ON COLUMN {{schema}}.imports.bookmark IS 'The place in the source after which a rerun goes on, in the source''s own words.';
COMMENT ON COLUMN {{schema}}.imports.batches IS 'Transactions so far: an import that finds another number was overtaken by a second one of its name.';

CREATE TABLE {{schema}}.import_skips (
    event_id   uuid NOT NULL,
    import     text COLLATE "C" NOT NULL,
    bookmark   text NOT NULL,
    reason     text NOT NULL,
    skipped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (event_id, import) -- in this order: NotImported asks by the id alone
);
COMMENT ON TABLE {{schema}}.import_skips IS 'What imports left out on purpose, and why: the id that the event would have had.';

-- make_month makes a month however far it is from the clock: ensure_month, without the bound that keeps appenders from
-- making tables at will. Nobody but this transaction sees the setting that lifts it; it is put back as it was.
CREATE FUNCTION {{schema}}.make_month(p_month date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    v_made   boolean;
    v_lifted boolean;
    v_clock  text; -- the setting, where there is one
BEGIN
    INSERT INTO {{schema}}.settings (name, value) VALUES ('test_clock', 'on') ON CONFLICT DO NOTHING;
    v_lifted := FOUND;
    IF NOT v_lifted THEN
        SELECT s.value INTO v_clock FROM {{schema}}.settings s WHERE s.name = 'test_clock' FOR UPDATE;
        UPDATE {{schema}}.settings SET value = 'on' WHERE name = 'test_clock' AND value <> 'on';
    END IF;
    v_made := {{schema}}.ensure_month(p_month);
    IF v_lifted THEN
        DELETE FROM {{schema}}.settings WHERE name = 'test_clock';
    ELSE
        UPDATE {{schema}}.settings SET value = v_clock WHERE name = 'test_clock' AND value <> v_clock;
    END IF;
    RETURN v_made;
END $$;
REVOKE EXECUTE ON FUNCTION {{schema}}.make_month(date) FROM PUBLIC;

-- move_positions sets the last position taken, for an import that keeps positions; the caller holds off every appender
-- (LOCK TABLE streams IN EXCLUSIVE MODE: a group of appends begins with FOR UPDATE). Not setval, which outlives a rollback:
-- the rerun of an import that was killed before its commit would then find its own positions taken. RESTART is undone with
-- the transaction; nextval sets is_called, without which last_position would say 0. Readers wait from here to the commit, so
-- it comes last. They also queue behind it while it waits for an open transaction that has read the sequence: so it soon
-- gives up, and its caller comes again. It never moves the sequence back: positions would be given out twice.
CREATE FUNCTION {{schema}}.move_positions(p_last bigint) RETURNS void
LANGUAGE plpgsql SET lock_timeout = '100ms' AS $$
DECLARE
    v_last bigint := {{schema}}.last_position();
BEGIN
    IF p_last <= v_last THEN
        RAISE EXCEPTION 'position % is not above the last one taken, %', p_last, v_last USING ERRCODE = 'HS001';
    END IF;
    EXECUTE format('ALTER SEQUENCE {{schema}}.events_position_seq RESTART WITH %s', p_last);
    PERFORM nextval('{{schema}}.events_position_seq');
END $$;
REVOKE EXECUTE ON FUNCTION {{schema}}.move_positions(bigint) FROM PUBLIC;
