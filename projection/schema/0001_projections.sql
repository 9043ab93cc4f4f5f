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
    runs       text[] NOT NULL, -- name/version/shards of each projection that it can run
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
CREATE INDEX projection_parked_due_idx ON {{schema}}.projection_parked (name, version, shard, retry_at)
 WHERE retry_at IS NOT NULL OR skip IS NOT NULL;

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

-- fewest_held is the least that another worker holds, of those alive that can run a projection; NULL without one.
CREATE FUNCTION {{schema}}.fewest_held(p_worker text, p_run text) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT min((SELECT count(*) FROM {{schema}}.projection_leases l WHERE l.worker = w.worker AND l.leased_until >= clock_timestamp()))
      FROM {{schema}}.projection_workers w
     WHERE w.worker <> p_worker AND w.seen_until >= clock_timestamp() AND w.runs @> ARRAY[p_run]
$$;

-- lease_shards is one beat of a worker's heart: it says that the worker lives, renews what it holds, takes what is free up to
-- its share, and asks back what is over it. It never waits for a row that somebody else holds. A worker counts for a
-- projection only if it runs the same version with the same shards.
CREATE FUNCTION {{schema}}.lease_shards(p_worker text, p_names text[], p_versions integer[], p_shards integer[], p_lease interval)
RETURNS TABLE (o_name text, o_version integer, o_shard integer, o_epoch bigint, o_give_back boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_now  constant timestamptz := clock_timestamp();
    c_runs constant text[] := ARRAY(SELECT r.name || '/' || r.version || '/' || r.shards FROM unnest(p_names, p_versions, p_shards) AS r (name, version, shards));
    v_mine  bigint;
    v_freed bigint := 0;
    v_lease record;
    v_fewest bigint;
BEGIN
    INSERT INTO {{schema}}.projection_workers AS w VALUES (p_worker, c_runs, c_now + p_lease)
    ON CONFLICT (worker) DO UPDATE SET runs = c_runs, seen_until = c_now + p_lease;
    DELETE FROM {{schema}}.projection_workers w WHERE w.worker IN (
        SELECT d.worker FROM {{schema}}.projection_workers d WHERE d.seen_until < c_now - interval '1 minute' FOR UPDATE SKIP LOCKED);

    UPDATE {{schema}}.projection_leases l SET leased_until = c_now + p_lease
     WHERE (l.name, l.version, l.shard) IN (
        SELECT m.name, m.version, m.shard FROM {{schema}}.projection_leases m JOIN {{schema}}.projections p USING (name, version)
         WHERE m.worker = p_worker AND p.state = 'running' AND p.name || '/' || p.version || '/' || p.shards = ANY (c_runs)
           FOR UPDATE OF m SKIP LOCKED);
    SELECT count(*) INTO v_mine FROM {{schema}}.projection_leases l WHERE l.worker = p_worker AND l.leased_until >= c_now;

    -- A free one is left to whoever can run it and holds less.
    FOR v_lease IN
        SELECT f.name, f.version, f.shard, {{schema}}.fewest_held(p_worker, p.name || '/' || p.version || '/' || p.shards) AS fewest
          FROM {{schema}}.projection_leases f JOIN {{schema}}.projections p USING (name, version)
         WHERE f.leased_until < c_now AND p.state = 'running' AND p.name || '/' || p.version || '/' || p.shards = ANY (c_runs)
         ORDER BY f.leased_until, f.name, f.version, f.shard
           FOR UPDATE OF f SKIP LOCKED
    LOOP
        CONTINUE WHEN v_mine > v_lease.fewest;
        UPDATE {{schema}}.projection_leases l
           SET worker = p_worker, leased_until = c_now + p_lease,
               epoch = 1 + greatest(l.epoch, (SELECT c.epoch FROM {{schema}}.checkpoints c
                                               WHERE (c.name, c.version, c.shard) = (l.name, l.version, l.shard)))
         WHERE (l.name, l.version, l.shard) = (v_lease.name, v_lease.version, v_lease.shard);
        v_mine := v_mine + 1;
    END LOOP;

    -- One is asked back for a worker that can run it and would still hold less than this one.
    FOR o_name, o_version, o_shard, o_epoch, v_fewest IN
        SELECT l.name, l.version, l.shard, l.epoch, {{schema}}.fewest_held(p_worker, p.name || '/' || p.version || '/' || p.shards) AS fewest
          FROM {{schema}}.projection_leases l JOIN {{schema}}.projections p USING (name, version)
         WHERE l.worker = p_worker AND l.leased_until >= c_now AND p.state = 'running'
           AND p.name || '/' || p.version || '/' || p.shards = ANY (c_runs)
         ORDER BY l.name, l.version, l.shard
    LOOP
        o_give_back := coalesce(v_fewest + v_freed < v_mine - 1, false);
        IF o_give_back THEN
            v_freed := v_freed + 1;
            v_mine := v_mine - 1;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
