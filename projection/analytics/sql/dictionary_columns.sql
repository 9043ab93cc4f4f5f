-- The columns of the star's tables. $1: the physical tables, in the order in which they are to stand.
SELECT t.n, coalesce(obj_description(c.oid, 'pg_class'), ''), a.attname, format_type(a.atttypid, a.atttypmod),
       a.attnotnull, coalesce(col_description(c.oid, a.attnum), ''),
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY (i.indkey)),
       coalesce((SELECT f.confrelid FROM pg_constraint f
                  WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.conparentid = 0 AND f.conkey[1] = a.attnum LIMIT 1), 0)::oid::bigint,
       c.oid::bigint
  FROM unnest($1::text[]) WITH ORDINALITY AS t (name, n)
  JOIN pg_class c ON c.oid = to_regclass(t.name)
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY t.n, a.attnum
