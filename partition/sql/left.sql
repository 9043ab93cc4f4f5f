UPDATE {{schema}}.months SET changed_at = clock_timestamp() WHERE month = $1::text::date AND state = 'detached'
