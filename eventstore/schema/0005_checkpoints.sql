-- checkpoints say how far each reader of the log that keeps its place here has come: all events up to position are done.
-- The log owns the table, because a month must not be dropped before all of them are past it. Who holds the epoch may write.
CREATE TABLE {{schema}}.checkpoints (
    name       text COLLATE "C" NOT NULL,
    version    integer NOT NULL,
    shard      integer NOT NULL,
    position   bigint NOT NULL DEFAULT 0,
    epoch      bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version, shard)
) WITH (fillfactor = 50); -- room for HOT updates: every batch updates its row
COMMENT ON TABLE {{schema}}.checkpoints IS 'How far each projection has come, by shard: all events up to position are done.';
