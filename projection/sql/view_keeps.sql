-- The rights to a relation ($1), where it is a view, and its comments, as statements that give them to a view ($2) of a table ($3).
WITH columns AS (
    SELECT a.* FROM pg_attribute a
      JOIN pg_attribute b ON b.attrelid = to_regclass($3::text) AND b.attname = a.attname AND b.attnum > 0 AND NOT b.attisdropped
     WHERE a.attrelid = to_regclass($1::text) AND a.attnum > 0 AND NOT a.attisdropped
), rights AS (
    SELECT c.relowner, x.*, '' AS of_column FROM pg_class c CROSS JOIN aclexplode(c.relacl) AS x WHERE c.oid = to_regclass($1::text) AND c.relkind = 'v'
     UNION ALL
    SELECT c.relowner, x.*, format(' (%I)', a.attname) FROM columns a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'v' CROSS JOIN aclexplode(a.attacl) AS x
)
SELECT format('GRANT %s%s ON %s TO %s%s', privilege_type, of_column, $2::text,
              CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END, CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
  FROM rights WHERE grantee <> relowner
 UNION ALL
SELECT format('COMMENT ON VIEW %s IS %L', $2::text, obj_description(to_regclass($1::text), 'pg_class'))
 WHERE obj_description(to_regclass($1::text), 'pg_class') IS NOT NULL
 UNION ALL
SELECT format('COMMENT ON COLUMN %s.%I IS %L', $2::text, attname, col_description(attrelid, attnum))
  FROM columns WHERE col_description(attrelid, attnum) IS NOT NULL
