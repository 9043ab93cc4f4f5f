WITH pairs AS MATERIALIZED (
    SELECT differs, CASE WHEN differs THEN to_jsonb(stored) END AS stored, CASE WHEN differs THEN to_jsonb(computed) END AS computed
      FROM (SELECT {{columns}} FROM {{aggregate}} WHERE {{part}} = ANY ($1)) AS stored ({{columns}})
      FULL JOIN (WITH given AS (SELECT $1::{{array}}, $2::date) {{sql}}) AS computed ({{columns}}) USING ({{key}})
     CROSS JOIN LATERAL (SELECT {{differs}}) AS d (differs))
SELECT (SELECT count(*) FROM pairs), (SELECT count(*) FROM pairs WHERE differs),
       (SELECT coalesce(jsonb_agg(jsonb_build_object('stored', stored, 'computed', computed)), '[]')
          FROM (SELECT * FROM pairs WHERE differs LIMIT $3::bigint) AS kept)
