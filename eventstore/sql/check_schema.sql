SELECT (SELECT seqcache FROM pg_sequence WHERE seqrelid = '{{schema}}.events_position_seq'::regclass),
       {{schema}}.last_position(),
       coalesce(greatest((SELECT max(position) FROM {{schema}}.events), (SELECT max(last_position) FROM {{schema}}.months)), 0)
