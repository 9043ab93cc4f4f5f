SELECT shards, tables, inline FROM {{schema}}.projections WHERE name = $1::text AND version = $2::integer
