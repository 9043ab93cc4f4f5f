-- What a column's declaration means, from a table that has but this column.
SELECT format_type(a.atttypid, a.atttypmod) || coalesce(' COLLATE ' || quote_ident(n.nspname) || '.' || quote_ident(l.collname), ''),
       a.attnotnull, coalesce(pg_get_expr(d.adbin, d.adrelid), ''),
       ARRAY(SELECT pg_get_expr(c.conbin, c.conrelid) FROM pg_constraint c WHERE c.conrelid = a.attrelid AND c.contype = 'c' ORDER BY c.conname),
       a.attgenerated = '' AND a.attidentity = '' AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = a.attrelid AND c.contype IN ('p', 'u', 'f', 'x'))
  FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  LEFT JOIN pg_collation l ON l.oid = a.attcollation AND a.attcollation <> t.typcollation
  LEFT JOIN pg_namespace n ON n.oid = l.collnamespace
 WHERE a.attrelid = $1::text::regclass AND a.attnum = 1
