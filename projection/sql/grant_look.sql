-- What a projection's rights are about: its tables ($1), the sequences that belong to their columns, and its views ($2).
-- The last column says whether the session may give rights to it.
WITH own AS (SELECT to_regclass(t)::oid AS oid FROM unnest($1::text[]) AS t WHERE to_regclass(t) IS NOT NULL),
     shown AS (SELECT to_regclass(v)::oid AS oid FROM unnest($2::text[]) AS v WHERE to_regclass(v) IS NOT NULL)
SELECT format('%I.%I', n.nspname, c.relname), c.relkind = 'S', c.oid IN (SELECT oid FROM shown), pg_has_role(c.relowner, 'USAGE')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid IN (SELECT oid FROM own)
    OR c.relkind = 'v' AND c.oid IN (SELECT oid FROM shown)
    OR c.relkind = 'S' AND c.oid IN (
           SELECT d.objid FROM pg_depend d JOIN own ON d.refobjid = own.oid
            WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))
