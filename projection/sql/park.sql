INSERT INTO {{schema}}.projection_parked (name, version, shard, key, position, stream_id, stream_version, attempts, error, retry_at)
SELECT $1::text, $2::integer, $3::integer, e.key, e.position, e.stream_id, e.stream_version, $8::integer, $9::text,
       clock_timestamp() + $10::bigint * interval '1 microsecond'
  FROM unnest($4::text[], $5::bigint[], $6::text[], $7::bigint[]) AS e (key, position, stream_id, stream_version)
