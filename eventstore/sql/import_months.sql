SELECT w.month::timestamp, coalesce(m.state, '')
  FROM unnest($1::text[]::date[]) AS w (month) LEFT JOIN {{schema}}.months m ON m.month = w.month
 WHERE m.state IS DISTINCT FROM 'open'
 ORDER BY w.month
