SELECT stream_id FROM {{schema}}.streams
 WHERE ($1::text = '' OR project_id = $1::text)
   AND ($2::text = '' OR stream_id >= $2::text || '-' AND stream_id < $2::text || '.')
   AND stream_id > $3::text
 ORDER BY stream_id LIMIT $4::bigint
