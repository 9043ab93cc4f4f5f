SELECT to_jsonb(stored) AS stored, to_jsonb(computed) AS computed
  FROM (SELECT {{columns}} FROM {{aggregate}} WHERE {{part}} = ANY ($1)) AS stored ({{columns}})
  FULL JOIN (WITH given AS (SELECT $1::{{array}}, $2::date) {{sql}}) AS computed ({{columns}}) USING ({{key}})
 WHERE {{differs}}
