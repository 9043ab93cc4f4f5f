-- The parent, and each month that is registered or attached, with its guards. tgtype: 1 row, 2 before, 8 DELETE, 16 UPDATE,
-- 32 TRUNCATE; without row it is a statement's.
SELECT coalesce(t.relname, 'events_' || to_char(m.month, 'YYYY_MM')),
       extract(epoch FROM m.month)::bigint,
       coalesce(m.state, ''),
       t.oid IS NOT NULL,
       coalesce(t.parent, false),
       coalesce(has_table_privilege(t.oid, 'SELECT'), false),
       coalesce(g.rows, false), coalesce(g.rows_off, ''),
       coalesce(g.truncates, false), coalesce(g.truncates_off, ''),
       ARRAY(SELECT k.columns FROM unnest(ARRAY['stream_id, version', 'position', 'event_id']) AS k (columns)
              WHERE NOT t.parent AND NOT EXISTS (
                    SELECT FROM pg_index i
                     WHERE i.indrelid = t.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
                       AND k.columns = (SELECT string_agg(c.attname, ', ' ORDER BY c.attnum)
                                          FROM pg_attribute c WHERE c.attrelid = i.indexrelid AND c.attnum <= i.indnkeyatts)))
  FROM {{schema}}.months m
  FULL JOIN (SELECT c.oid, c.relname::text, false AS parent
               FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
              WHERE i.inhparent = '{{schema}}.events'::regclass AND NOT i.inhdetachpending
              UNION ALL SELECT '{{schema}}.events'::regclass, 'events', true) AS t
         ON t.relname = 'events_' || to_char(m.month, 'YYYY_MM')
  LEFT JOIN LATERAL (
       SELECT bool_or(w.row AND w.enabled) AS rows, min(w.tgname) FILTER (WHERE w.row AND NOT w.enabled) AS rows_off,
              bool_or(NOT w.row AND w.enabled) AS truncates, min(w.tgname) FILTER (WHERE NOT w.row AND NOT w.enabled) AS truncates_off
         FROM (SELECT g.tgname::text, g.tgtype & 1 = 1 AS row, g.tgenabled IN ('O', 'A') AS enabled
                 FROM pg_trigger g
                WHERE g.tgrelid = t.oid AND g.tgfoid = '{{schema}}.refuse_change()'::regprocedure AND g.tgqual IS NULL AND g.tgattr = ''
                  AND (g.tgtype & 27 = 27 OR g.tgtype & 35 = 34)) AS w) AS g ON true
 ORDER BY 1
