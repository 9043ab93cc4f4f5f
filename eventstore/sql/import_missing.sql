SELECT w.event_id
  FROM unnest($1::text[]::uuid[], $2::timestamptz[]) WITH ORDINALITY AS w (event_id, recorded_at, n)
 WHERE NOT EXISTS (SELECT FROM {{schema}}.events e
                    WHERE e.event_id = w.event_id AND e.recorded_at >= $3::timestamptz AND e.recorded_at <= $4::timestamptz)
   AND NOT EXISTS (SELECT FROM {{schema}}.import_skips k WHERE k.event_id = w.event_id)
   AND NOT EXISTS (SELECT FROM {{schema}}.months m
                    WHERE m.month = date_trunc('month', w.recorded_at AT TIME ZONE 'UTC')::date AND m.state IN ('detached', 'dropped'))
 ORDER BY w.n
