SELECT version, coalesce(project_id, ''), first_recorded_at, last_recorded_at
  FROM {{schema}}.streams WHERE stream_id = $1::text
