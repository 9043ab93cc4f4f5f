-- Whether an append is in flight that may have looked its month up before: its fence is at or below the last position of then.
SELECT EXISTS (
    SELECT FROM pg_locks l
     WHERE l.locktype = 'advisory' AND l.objsubid = 2
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND l.classid = '{{schema}}.events_position_seq'::regclass::oid
       AND {{schema}}.fence_key(l.objid::bigint - $1::bigint) <= 0)
