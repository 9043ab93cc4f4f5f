SELECT (SELECT count(*) FROM {{schema}}.migrations WHERE line = 'eventstore'), (SELECT count(DISTINCT stream_id) FROM {{schema}}.{{leaf}})
