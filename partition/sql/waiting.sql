-- The gate: who reads the log by a checkpoint has to be past the month, unless it was released and has not moved since.
SELECT c.name, c.version, min(c.position) AS position, max(c.updated_at) AS updated_at, false AS parked
  FROM {{schema}}.checkpoints c
 WHERE c.position < $1::bigint
   AND NOT EXISTS (SELECT FROM {{schema}}.partition_releases r WHERE (r.name, r.version) = (c.name, c.version) AND r.released_at >= c.updated_at)
 GROUP BY c.name, c.version ORDER BY c.name, c.version
