SELECT s.stream_id, s.version, s.event_id, s.position, s.recorded_at, s.occurred_to, s.state, s.digest, clock_timestamp() - s.created_at
  FROM unnest($1::text[]) WITH ORDINALITY AS asked (stream_id, n)
 CROSS JOIN LATERAL (
    SELECT n.stream_id, n.version, n.event_id, n.position, n.recorded_at, n.occurred_to, n.state, n.digest, n.created_at FROM {{schema}}.snapshots n
     WHERE n.stream_id = asked.stream_id AND n.fold = $2::text AND n.fold_version = $3::integer AND n.format = $4::integer
       AND n.version <= $5::bigint AND n.position <= $6::bigint AND n.recorded_at <= $7::timestamptz AND n.occurred_to <= $8::timestamptz
     ORDER BY n.version DESC LIMIT 1) AS s
 WHERE NOT EXISTS (SELECT FROM {{schema}}.snapshot_quarantine q WHERE (q.fold, q.fold_version, q.format) = ($2::text, $3::integer, $4::integer))
 ORDER BY asked.n
