INSERT INTO {{schema}}.import_skips (import, event_id, bookmark, reason)
SELECT DISTINCT ON (w.event_id) $1::text, w.event_id, w.bookmark, w.reason
  FROM unnest($2::text[]::uuid[], $3::text[], $4::text[]) WITH ORDINALITY AS w (event_id, bookmark, reason, n)
 ORDER BY w.event_id, w.n DESC
ON CONFLICT (event_id, import) DO UPDATE SET bookmark = excluded.bookmark, reason = excluded.reason
