SELECT coalesce(outcome, ''), coalesce(version, 0), recorded_at, positions FROM {{schema}}.first_answer($1::text, $2::uuid[], NULL)
