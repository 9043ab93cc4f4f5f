SELECT outcome, version, recorded_at, positions
  FROM {{schema}}.append($1::text, $2::bigint, $3::text, $4::uuid[], $5::text[], $6::integer[], $7::timestamptz[],
                         $8::text[], $9::text[], $10::timestamptz, $11::boolean, $12::bigint * interval '1 microsecond', $13::timestamptz)
