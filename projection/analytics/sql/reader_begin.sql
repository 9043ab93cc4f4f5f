-- How far the star has come, in the snapshot that the transaction goes on with, and the transaction's settings.
SELECT c.position, c.updated_at, set_config('search_path', $1::text, true) || set_config('statement_timeout', $2::text, true)
  FROM {{schema}}.checkpoints c WHERE (c.name, c.version, c.shard) = ('analytics', $3::integer, 0)
