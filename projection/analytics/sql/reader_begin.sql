-- Which version the views show, and how far it has come, in the snapshot that the transaction goes on with; and where its tables are.
SELECT c.version, c.position, c.updated_at, marks.n, marks.oldest, (SELECT at FROM {{schema}}.analytics_refreshed), set_config('search_path', $1::text, true)
  FROM {{schema}}.checkpoints c
 CROSS JOIN (SELECT count(*) AS n, min(marked_at) AS oldest FROM {{schema}}.analytics_dirty) AS marks
 WHERE (c.name, c.shard) = ('analytics', 0)
   AND c.version = (SELECT DISTINCT substring(t.relname FROM '_v([0-9]+)$')::integer
                      FROM pg_rewrite w
                      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class
                      JOIN pg_class t ON t.oid = d.refobjid
                     WHERE w.ev_class = '{{schema}}.analytics_dirty'::regclass)
