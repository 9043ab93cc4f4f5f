-- Projections: what runs, who runs it, and what could not be applied. Where each stands is in the log's checkpoints.

CREATE TABLE {{schema}}.projections (
    name       text COLLATE "C" NOT NULL,
    version    integer NOT NULL CHECK (version > 0),
    shards     integer NOT NULL CHECK (shards > 0),
    state      text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'stopped')),
    reason     text NOT NULL DEFAULT '',
    inline     boolean NOT NULL DEFAULT false, -- each append applies its own events; the checkpoint stands where that began
    tables     text[] NOT NULL DEFAULT '{}',
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version)
);
COMMENT ON COLUMN {{schema}}.projections.state IS 'running; paused by an operator; stopped by a runner, for the reason given.';

-- Apart from the checkpoints, so that a lease is renewed while a batch holds its checkpoint.
CREATE TABLE {{schema}}.projection_leases (
    name         text COLLATE "C" NOT NULL,
    version      integer NOT NULL,
    shard        integer NOT NULL,
    worker       text COLLATE "C", -- NULL: free
    epoch        bigint NOT NULL DEFAULT 0,
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (name, version, shard),
    FOREIGN KEY (name, version) REFERENCES {{schema}}.projections ON DELETE CASCADE
) WITH (fillfactor = 50);

CREATE TABLE {{schema}}.projection_workers (
    worker     text COLLATE "C" PRIMARY KEY,
    runs       text[] NOT NULL, -- name/version of each projection that it can run
    seen_until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- An event that failed, with the later ones of its ordering key behind it, in position order.
CREATE TABLE {{schema}}.projection_parked (
    name       text COLLATE "C" NOT NULL,
    version    integer NOT NULL,
    shard      integer NOT NULL,
    key        text COLLATE "C" NOT NULL,
    position   bigint NOT NULL,
    stream_id  text COLLATE "C" NOT NULL,
    stream_version bigint NOT NULL,
    attempts   integer NOT NULL DEFAULT 0, -- 0: it waits behind another
    error      text NOT NULL DEFAULT '',
    parked_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    retry_at   timestamptz, -- NULL: not by itself
    skip       text, -- why an operator wants it left out
    PRIMARY KEY (name, version, shard, key, position)
);
CREATE INDEX projection_parked_due_idx ON {{schema}}.projection_parked (name, version, shard, retry_at) WHERE attempts > 0;

-- What an operator skipped stays on record.
CREATE TABLE {{schema}}.projection_skipped (
    name       text COLLATE "C" NOT NULL,
    version    integer NOT NULL,
    key        text COLLATE "C" NOT NULL,
    position   bigint NOT NULL,
    error      text NOT NULL,
    attempts   integer NOT NULL,
    reason     text NOT NULL,
    skipped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version, position)
);

-- lease_shards is one beat of a worker's heart: it says that the worker lives, renews what it holds, takes what is free up to
-- its share, and asks back what is over it. It never waits for a row that another beat holds.
CREATE FUNCTION {{schema}}.lease_shards(p_worker text, p_names text[], p_versions integer[], p_lease interval)
RETURNS TABLE (o_name text, o_version integer, o_shard integer, o_epoch bigint, o_give_back boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_now  constant timestamptz := clock_timestamp();
    c_runs constant text[] := ARRAY(SELECT r.name || '/' || r.version FROM unnest(p_names, p_versions) AS r (name, version));
    v_mine   bigint;
    v_shards bigint; -- that this worker can run
    v_others bigint; -- workers that can run some of them, too
    v_fewest bigint; -- that one of them holds
    v_least  bigint; -- what everybody should have
    v_most   bigint; -- what nobody should have more than
BEGIN
    INSERT INTO {{schema}}.projection_workers AS w VALUES (p_worker, c_runs, c_now + p_lease)
    ON CONFLICT (worker) DO UPDATE SET runs = c_runs, seen_until = c_now + p_lease;
    DELETE FROM {{schema}}.projection_workers w WHERE w.worker IN (
        SELECT d.worker FROM {{schema}}.projection_workers d WHERE d.seen_until < c_now - interval '1 minute' FOR UPDATE SKIP LOCKED);

    UPDATE {{schema}}.projection_leases l SET leased_until = c_now + p_lease
     WHERE l.worker = p_worker AND (l.name, l.version) IN
           (SELECT p.name, p.version FROM {{schema}}.projections p WHERE p.state = 'running');
    GET DIAGNOSTICS v_mine = ROW_COUNT;

    SELECT count(*) INTO v_shards
      FROM {{schema}}.projection_leases l JOIN {{schema}}.projections p USING (name, version)
     WHERE p.state = 'running' AND l.name || '/' || l.version = ANY (c_runs);
    SELECT count(*), coalesce(min(o.held), v_shards) INTO v_others, v_fewest
      FROM (SELECT (SELECT count(*) FROM {{schema}}.projection_leases l WHERE l.worker = w.worker AND l.leased_until >= c_now) AS held
              FROM {{schema}}.projection_workers w
             WHERE w.worker <> p_worker AND w.seen_until >= c_now AND w.runs && c_runs) AS o;
    v_least := v_shards / (v_others + 1);
    v_most := CASE WHEN v_fewest < v_least THEN v_least ELSE (v_shards + v_others) / (v_others + 1) END;

    IF v_mine < v_most THEN
        UPDATE {{schema}}.projection_leases l
           SET worker = p_worker, leased_until = c_now + p_lease,
               epoch = 1 + greatest(l.epoch, (SELECT c.epoch FROM {{schema}}.checkpoints c
                                               WHERE (c.name, c.version, c.shard) = (l.name, l.version, l.shard)))
         WHERE (l.name, l.version, l.shard) IN (
            SELECT f.name, f.version, f.shard FROM {{schema}}.projection_leases f
              JOIN {{schema}}.projections p USING (name, version)
             WHERE f.leased_until < c_now AND p.state = 'running' AND f.name || '/' || f.version = ANY (c_runs)
             ORDER BY f.leased_until, f.name, f.shard
             LIMIT v_most - v_mine FOR UPDATE OF f SKIP LOCKED);
    END IF;
    RETURN QUERY
        SELECT l.name, l.version, l.shard, l.epoch,
               row_number() OVER (ORDER BY l.name, l.version, l.shard) > v_most -- one that has too little will take it
          FROM {{schema}}.projection_leases l JOIN {{schema}}.projections p USING (name, version)
         WHERE l.worker = p_worker AND l.leased_until >= c_now AND p.state = 'running';
END $$;
