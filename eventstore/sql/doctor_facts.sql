-- One row of what is one. Times are microseconds since 1970: a DateStyle that pgx cannot read is among what is looked for.
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
       pg_is_in_recovery(),
       current_user::text,
       pg_get_userbyid(events.relowner)::text,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
       pg_has_role(events.relowner, 'MEMBER'),
       pg_has_role('pg_write_all_data', 'MEMBER'),
       has_function_privilege('{{schema}}.ensure_month(date)', 'EXECUTE'),
       current_setting('fsync') = 'on',
       current_setting('full_page_writes') = 'on',
       current_setting('synchronous_commit'),
       current_setting('DateStyle'),
       EXISTS (SELECT FROM {{schema}}.settings WHERE name = 'test_clock' AND value = 'on'),
       sequence.seqcache,
       {{schema}}.last_position(),
       (SELECT position FROM {{schema}}.settled),
       -- A standby, as far as any role can see: a WAL sender that serves no logical slot.
       EXISTS (SELECT FROM pg_stat_replication r
                WHERE NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical'))
  FROM pg_class events, pg_sequence sequence
 WHERE events.oid = '{{schema}}.events'::regclass AND sequence.seqrelid = '{{schema}}.events_position_seq'::regclass
