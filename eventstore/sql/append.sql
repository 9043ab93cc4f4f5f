SELECT outcome, o_version, o_recorded_at, o_positions
  FROM {{schema}}.append($1::text, $2::bigint, $3::text, $4::text[]::uuid[], $5::text[], $6::integer[], $7::timestamptz[],
                         $8::text[], $9::text[], $10::bigint * interval '1 microsecond', $11::timestamptz)
