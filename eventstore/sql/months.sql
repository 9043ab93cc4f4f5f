SELECT month::timestamp, state, revision, coalesce(first_position, 0), coalesce(last_position, 0), coalesce(archive, '')
  FROM {{schema}}.months ORDER BY month
