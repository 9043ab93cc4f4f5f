SELECT v.name, left(v.stored, 200), left(v.made, 200)
  FROM {{fact}} AS f CROSS JOIN LATERAL (VALUES {{values}}) AS v (name, stored, made)
 WHERE f.position = $1::bigint{{line}} AND v.stored IS DISTINCT FROM v.made
