-- Who, beside the owner and superusers, may write past the append functions: to a table, a column or the sequence, or by a
-- trigger, which would run with the owner's rights. Default privileges give the same to each month made later.
WITH written AS (
    SELECT c.oid, c.relkind, c.relowner, c.relacl, format('%I.%I', n.nspname, c.relname) AS name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.oid = '{{schema}}'::regnamespace AND c.relname IN
           ('events', 'streams', 'months', 'settled', 'settings', 'migrations', 'events_position_seq')
        OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = '{{schema}}.events'::regclass)
), given AS (
    SELECT CASE w.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, w.name, w.relowner, a.grantee, a.privilege_type
      FROM written w, aclexplode(w.relacl) AS a
    UNION SELECT 'TABLE', w.name, w.relowner, a.grantee, a.privilege_type
      FROM written w JOIN pg_attribute c ON c.attrelid = w.oid, aclexplode(c.attacl) AS a
    UNION SELECT 'DEFAULT', CASE d.defaclnamespace WHEN 0 THEN '' ELSE quote_ident('{{schema}}'::regnamespace::text) END,
                 d.defaclrole, a.grantee, a.privilege_type
      FROM pg_default_acl d, aclexplode(d.defaclacl) AS a
     WHERE d.defaclobjtype = 'r' AND d.defaclnamespace IN (0, '{{schema}}'::regnamespace)
       AND d.defaclrole = (SELECT relowner FROM written WHERE oid = '{{schema}}.events'::regclass)
)
SELECT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
       g.kind, quote_ident(pg_get_userbyid(g.relowner)), array_agg(DISTINCT g.name), array_agg(DISTINCT g.privilege_type)
  FROM given g LEFT JOIN pg_roles r ON r.oid = g.grantee
 WHERE g.grantee <> g.relowner AND r.rolsuper IS NOT TRUE
   AND g.privilege_type = ANY (CASE g.kind WHEN 'SEQUENCE' THEN ARRAY['USAGE', 'UPDATE']
                                           ELSE ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER'] END)
 GROUP BY 1, 2, 3
 ORDER BY 1, 2 DESC
