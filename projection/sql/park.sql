-- What is queued behind nothing is due at once: the worker may not have heard yet that the last parked event of the key is done.
INSERT INTO {{schema}}.projection_parked (name, version, shard, key, position, stream_id, stream_version, attempts, error, retry_at)
SELECT $1::text, $2::integer, $3::integer, e.key, e.position, e.stream_id, e.stream_version, $8::integer, $9::text,
       CASE WHEN $8::integer > 0 THEN clock_timestamp() + $10::bigint * interval '1 microsecond'
            WHEN e.position = min(e.position) OVER (PARTITION BY e.key)
             AND NOT EXISTS (SELECT FROM {{schema}}.projection_parked k
                              WHERE k.name = $1::text AND k.version = $2::integer AND k.shard = $3::integer AND k.key = e.key)
            THEN clock_timestamp() END
  FROM unnest($4::text[], $5::bigint[], $6::text[], $7::bigint[]) AS e (key, position, stream_id, stream_version)
