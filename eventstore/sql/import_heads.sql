SELECT stream_id, version, first_recorded_at, last_recorded_at FROM {{schema}}.streams WHERE stream_id = ANY ($1::text[])
