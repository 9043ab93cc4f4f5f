SELECT outcome, version, recorded_at, positions
  FROM {{schema}}.append_many($1::text[], $2::bigint[], $3::text[], $4::integer[], $5::uuid[], $6::text[], $7::integer[],
                              $8::timestamptz[], $9::text[], $10::text[], $11::timestamptz, $12::bigint * interval '1 microsecond',
                              $13::timestamptz)
