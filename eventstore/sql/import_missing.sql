SELECT w.event_id
  FROM unnest($1::text[]::uuid[]) WITH ORDINALITY AS w (event_id, n)
 WHERE NOT EXISTS (SELECT FROM {{schema}}.events e
                    WHERE e.event_id = w.event_id AND e.recorded_at >= $2::timestamptz AND e.recorded_at <= $3::timestamptz)
   AND NOT EXISTS (SELECT FROM {{schema}}.import_skips k WHERE k.event_id = w.event_id)
 ORDER BY w.n
