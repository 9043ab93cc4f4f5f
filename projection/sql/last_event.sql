SELECT max(position) FROM {{schema}}.events WHERE position <= $1::bigint
