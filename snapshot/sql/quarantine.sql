INSERT INTO {{schema}}.snapshot_quarantine (fold, fold_version, format, reason) VALUES ($1::text, $2::integer, $3::integer, $4::text)
ON CONFLICT DO NOTHING
