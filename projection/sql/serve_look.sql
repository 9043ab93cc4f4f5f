-- Version $2 of projection $1, and the other versions that the views ($3) show: how far each has come, and how many keys are
-- parked of version $2 that are not of it.
WITH shown AS (
    SELECT d.refobjid AS oid
      FROM unnest($3::text[]) AS v (name)
      JOIN pg_rewrite w ON w.ev_class = to_regclass(v.name)
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class
)
SELECT p.version, p.inline AND p.state = 'running', c.least, c.furthest,
       (SELECT count(DISTINCT k.key) FROM {{schema}}.projection_parked k
         WHERE k.name = p.name AND k.version = $2::integer
           AND NOT EXISTS (SELECT FROM {{schema}}.projection_parked o WHERE (o.name, o.version, o.key) = (p.name, p.version, k.key)))
  FROM {{schema}}.projections p
 CROSS JOIN LATERAL (SELECT min(position) AS least, max(position) AS furthest FROM {{schema}}.checkpoints WHERE (name, version) = (p.name, p.version)) AS c
 WHERE p.name = $1::text
   AND (p.version = $2::integer OR EXISTS (SELECT FROM unnest(p.tables) AS t (name) JOIN shown s ON s.oid = to_regclass(t.name)))
