SELECT p.state, p.reason, min(c.position), p.inline
  FROM {{schema}}.projections p JOIN {{schema}}.checkpoints c USING (name, version)
 WHERE p.name = $1::text AND p.version = $2::integer GROUP BY p.state, p.reason, p.inline
