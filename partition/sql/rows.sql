SELECT position, recorded_at, stream_id, version, event_id, event_type, schema_version, occurred_at, event_data, metadata
  FROM {{schema}}.{{leaf}} WHERE position > $1::bigint ORDER BY position LIMIT $2::bigint
