SELECT name, version FROM {{schema}}.projections
 WHERE inline AND state = 'running' AND (name, version) IN (SELECT * FROM unnest($1::text[], $2::integer[]))
