SELECT c.position,
       (SELECT coalesce(array_agg(position), '{}') FROM {{schema}}.projection_parked WHERE (name, version) = (c.name, c.version)),
       (SELECT coalesce(array_agg(position), '{}') FROM {{schema}}.projection_skipped WHERE (name, version) = (c.name, c.version))
  FROM {{schema}}.checkpoints c WHERE (c.name, c.version, c.shard) = ('analytics', $1::integer, 0)
