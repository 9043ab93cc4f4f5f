-- Makes or locks the head rows, in stream order, and returns the streams that it made. WHERE false: a row that is there is
-- locked and stays as it is.
INSERT INTO {{schema}}.streams AS s (stream_id, project_id, version, first_recorded_at, last_recorded_at)
SELECT h.stream_id, h.project_id, h.version, coalesce(h.first, now()), coalesce(h.last, now())
  FROM unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::timestamptz[])
       AS h (stream_id, project_id, version, first, last)
 ORDER BY h.stream_id COLLATE "C"
ON CONFLICT (stream_id) DO UPDATE SET version = s.version WHERE false
RETURNING stream_id
