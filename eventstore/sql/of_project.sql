SELECT stream_id FROM {{schema}}.streams WHERE project_id = $1::text AND stream_id = ANY($2::text[])
