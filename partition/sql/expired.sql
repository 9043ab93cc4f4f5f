UPDATE {{schema}}.months SET archive = NULL, revision = revision + 1 WHERE month = $1::text::date AND state = 'dropped'
