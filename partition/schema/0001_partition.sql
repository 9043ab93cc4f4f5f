-- What the log itself does not know about its months. Their states are in months, which the log owns.
CREATE TABLE {{schema}}.partition_releases (
    name        text COLLATE "C" NOT NULL,
    version     integer NOT NULL,
    reason      text NOT NULL,
    released_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version)
);
CREATE TABLE {{schema}}.partition_log (id uuid NOT NULL DEFAULT gen_random_uuid());
INSERT INTO {{schema}}.partition_log DEFAULT VALUES;
COMMENT ON TABLE {{schema}}.partition_log IS 'What archives know the log by, so that two do not write to one.';
COMMENT ON TABLE {{schema}}.partition_releases IS 'Checkpoints that hold no month back any more, and why: nobody will move them on.';
