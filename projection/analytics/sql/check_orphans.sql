SELECT f.position, f.timestamp, '{{column}}' AS refers_by, f.{{column}}::text AS to_id
  FROM {{fact}} f
 WHERE NOT EXISTS (SELECT FROM {{dimension}} d WHERE d.{{key}} = f.{{column}})
