SELECT s.stream_id, s.version, s.event_id, s.position, s.recorded_at, s.occurred_to, s.state, s.digest, clock_timestamp() - s.created_at
  FROM (SELECT stream_id
          FROM (SELECT DISTINCT stream_id FROM {{schema}}.snapshots WHERE fold = $1::text AND fold_version = $2::integer AND format = $3::integer) AS every
         ORDER BY random() LIMIT $4::bigint) AS streams
 CROSS JOIN LATERAL (
    SELECT * FROM {{schema}}.snapshots n
     WHERE n.stream_id = streams.stream_id AND n.fold = $1::text AND n.fold_version = $2::integer AND n.format = $3::integer
     ORDER BY random() LIMIT 1) AS s
