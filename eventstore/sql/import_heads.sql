-- OFFSET 0: a look-up a stream in the primary key, whatever size the table had when this was planned.
SELECT w.stream_id, h.version, h.first_recorded_at, h.last_recorded_at
  FROM unnest($1::text[]) AS w (stream_id),
       LATERAL (SELECT s.version, s.first_recorded_at, s.last_recorded_at FROM {{schema}}.streams s
                 WHERE s.stream_id = w.stream_id OFFSET 0) AS h
