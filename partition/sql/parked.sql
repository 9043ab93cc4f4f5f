-- Events that projections have parked: the checkpoint is past them, and they are still to be read.
SELECT p.name, p.version, min(p.position), max(p.parked_at), true
  FROM {{schema}}.projection_parked p
 WHERE p.position <= $1::bigint
   AND NOT EXISTS (SELECT FROM {{schema}}.partition_releases r WHERE (r.name, r.version) = (p.name, p.version) AND r.released_at >= p.parked_at)
 GROUP BY p.name, p.version ORDER BY p.name, p.version
