SELECT o_heads, o_recorded_at, o_positions
  FROM {{schema}}.append_group($1::text[], $2::bigint[], $3::text[], $4::integer[], $5::integer[], $6::integer[], $7::uuid[],
                               $8::text[], $9::integer[], $10::timestamptz[], $11::text[], $12::text[], $13::timestamptz, $14::timestamptz)
