WITH off AS (
    UPDATE {{schema}}.projections SET inline = false WHERE name = $1::text AND version = $2::integer AND inline
    RETURNING name, version)
UPDATE {{schema}}.checkpoints c SET position = greatest(c.position, (SELECT max(position) FROM {{schema}}.events), (SELECT max(last_position) FROM {{schema}}.months)), updated_at = clock_timestamp()
  FROM off WHERE (c.name, c.version) = (off.name, off.version)
