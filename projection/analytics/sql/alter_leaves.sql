-- The tables that hold the rows, and their primary keys.
SELECT format('%I.%I', n.nspname, c.relname),
       ARRAY(SELECT quote_ident(a.attname) FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (num, n) JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num ORDER BY k.n),
       ARRAY(SELECT format_type(a.atttypid, NULL) FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (num, n) JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num ORDER BY k.n)
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
 WHERE c.relkind = 'r' AND (c.oid = $1::text::regclass OR c.oid IN (SELECT relid FROM pg_partition_tree($1::text::regclass)))
 ORDER BY 1
