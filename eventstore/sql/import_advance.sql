UPDATE {{schema}}.streams s SET version = h.version, first_recorded_at = h.first, last_recorded_at = h.last
  FROM unnest($1::text[], $2::bigint[], $3::timestamptz[], $4::timestamptz[]) AS h (stream_id, version, first, last)
 WHERE s.stream_id = h.stream_id
