SELECT c.position, (SELECT count(*) FROM {{schema}}.projection_parked k WHERE (k.name, k.version) = (c.name, c.version))
  FROM (SELECT * FROM {{schema}}.checkpoints WHERE name = $1::text AND version = $2::integer FOR UPDATE) AS c
