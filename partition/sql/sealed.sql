UPDATE {{schema}}.months
   SET state = 'sealed', revision = revision + 1, changed_at = clock_timestamp(), first_position = $2::bigint, last_position = $3::bigint,
       row_count = $4::bigint, digest = $5::bytea, bytes = pg_total_relation_size(to_regclass($6::text))
 WHERE month = $1::text::date AND state = 'sealing'
