UPDATE {{schema}}.months SET state = 'exported', archive = $2::text, revision = revision + 1, changed_at = clock_timestamp()
 WHERE month = $1::text::date AND state = 'sealed'
