-- Waits for a transaction of a killed run that is still committing: its bookmark counts.
INSERT INTO {{schema}}.imports AS i (name) VALUES ($1::text)
ON CONFLICT (name) DO UPDATE SET name = i.name
RETURNING bookmark, events, existing, skipped, batches
