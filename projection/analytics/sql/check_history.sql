SELECT persona_id, from_position, to_position, 'the next state does not begin where this one ends' AS reason
  FROM (SELECT persona_id, from_position, to_position, lead(from_position) OVER (PARTITION BY persona_id ORDER BY from_position) AS next
          FROM {{dim_persona_history}}) AS h
 WHERE to_position <> coalesce(next, 9223372036854775807)
 UNION ALL
SELECT persona_id, position, NULL, 'the persona has no history'
  FROM {{dim_personas}} p
 WHERE NOT placeholder AND persona_id <> '' AND NOT EXISTS (SELECT FROM {{dim_persona_history}} h WHERE h.persona_id = p.persona_id)
