SELECT min(position), max(position) FROM {{schema}}.{{leaf}}
