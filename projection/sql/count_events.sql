SELECT count(*) FROM (
    SELECT FROM {{schema}}.events WHERE position > $1::bigint AND position <= $2::bigint LIMIT $3::bigint) AS e
