-- Of a COPY, which takes no parameters.
SELECT position, recorded_at, stream_id, version, event_id, event_type, schema_version, occurred_at, event_data, metadata
  FROM {{schema}}.{{leaf}} WHERE position > {{after}} ORDER BY position LIMIT {{limit}}
