-- The fences in flight below $1, the last position; the one that holds most first. A prepared transaction has no pid,
-- and its virtual id is its old session's until the server restarts: the lock on its own xid tells which one it is.
SELECT coalesce(f.pid, 0),
       coalesce(x.gid, ''),
       coalesce(a.usename, x.owner, '')::text,
       coalesce(a.application_name, ''),
       coalesce(host(a.client_addr), ''),
       coalesce(a.state, ''),
       coalesce(CASE WHEN a.state IS NOT NULL THEN a.query END, ''),
       coalesce((extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, x.prepared)) * 1000000)::bigint, -1),
       $1::bigint + f.behind
  FROM (SELECT l.pid, l.virtualtransaction, min({{schema}}.fence_key(l.objid::bigint - $1::bigint)) AS behind
          FROM pg_locks l
         WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND l.classid = '{{schema}}.events_position_seq'::regclass::oid
         GROUP BY l.pid, l.virtualtransaction) AS f
  LEFT JOIN pg_stat_activity a ON a.pid = f.pid
  LEFT JOIN (pg_prepared_xacts x JOIN pg_locks own ON own.locktype = 'transactionid' AND own.pid IS NULL AND own.transactionid = x.transaction)
         ON f.pid IS NULL AND own.virtualtransaction = f.virtualtransaction
 WHERE f.behind < 0 AND (a.pid IS NOT NULL OR x.gid IS NOT NULL) -- else it has ended meanwhile
 ORDER BY f.behind, coalesce(a.xact_start, x.prepared)
