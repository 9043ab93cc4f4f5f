SELECT {{columns}}, count(*) AS rows, min(timestamp) AS first_timestamp, max(timestamp) AS last_timestamp
  FROM {{fact}} GROUP BY {{columns}} HAVING count(*) > 1
