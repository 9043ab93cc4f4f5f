SELECT position, stream_id, attempts, error
  FROM {{schema}}.projection_parked WHERE (name, version) = ('analytics', {{version}})
 ORDER BY position
