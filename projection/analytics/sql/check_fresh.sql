SELECT m.oldest, r.at, greatest(0, floor(extract(epoch FROM clock_timestamp() - least(m.oldest, (r.today + 1)::timestamp AT TIME ZONE $1::text)) / 60))::bigint
  FROM (SELECT min(marked_at) AS oldest FROM {{analytics_dirty}}) AS m
  LEFT JOIN {{analytics_refreshed}} AS r ON true
