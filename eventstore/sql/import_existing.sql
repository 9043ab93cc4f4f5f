-- OFFSET 0 keeps it one index look-up a stream and leaf.
SELECT w.stream_id, e.version, e.event_id, e.position
  FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS w (stream_id, first, last),
       LATERAL (SELECT version, event_id, position FROM {{schema}}.events
                 WHERE stream_id = w.stream_id AND version BETWEEN w.first AND w.last OFFSET 0) AS e
