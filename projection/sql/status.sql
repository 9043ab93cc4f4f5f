SELECT p.name, p.version, p.state, p.inline, p.reason, p.changed_at,
       c.shard, c.position, c.updated_at, coalesce(CASE WHEN l.leased_until >= clock_timestamp() THEN l.worker END, ''),
       (SELECT count(DISTINCT k.key) FROM {{schema}}.projection_parked k WHERE (k.name, k.version, k.shard) = (c.name, c.version, c.shard)),
       (SELECT count(*) FROM {{schema}}.projection_parked k WHERE (k.name, k.version, k.shard) = (c.name, c.version, c.shard))
  FROM {{schema}}.projections p
  JOIN {{schema}}.checkpoints c USING (name, version)
  JOIN {{schema}}.projection_leases l USING (name, version, shard)
 WHERE (p.name, p.version) IN (SELECT * FROM unnest($1::text[], $2::integer[]))
 ORDER BY p.name, p.version, c.shard
