SELECT e.position, e.event_type, e.recorded_at
  FROM {{schema}}.events e
 WHERE e.position > (SELECT position FROM {{schema}}.checkpoints WHERE (name, version, shard) = ('analytics', {{version}}, 0))
   AND e.event_type IN ({{types}}) AND e.recorded_at < now() - interval '5 minutes'
 ORDER BY e.position LIMIT 1000
