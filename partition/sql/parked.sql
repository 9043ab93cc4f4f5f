-- Events that projections have parked: the checkpoint is past them, and they are still to be read.
SELECT p.name || ' (parked events)', p.version, min(p.position), clock_timestamp()
  FROM {{schema}}.projection_parked p
 WHERE p.position <= $1::bigint
   AND NOT EXISTS (SELECT FROM {{schema}}.partition_releases r WHERE (r.name, r.version) = (p.name, p.version))
 GROUP BY p.name, p.version ORDER BY p.name, p.version
