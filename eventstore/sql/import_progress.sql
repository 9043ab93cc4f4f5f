UPDATE {{schema}}.imports
   SET bookmark = $3::text, events = events + $4::bigint, existing = existing + $5::bigint, skipped = skipped + $6::bigint,
       batches = batches + 1, updated_at = clock_timestamp()
 WHERE name = $1::text AND batches = $2::bigint
