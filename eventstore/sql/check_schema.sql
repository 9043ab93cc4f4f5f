SELECT (SELECT seqcache FROM pg_sequence WHERE seqrelid = '{{schema}}.events_position_seq'::regclass),
       {{schema}}.last_position(),
       coalesce((SELECT max(position) FROM {{schema}}.events), 0)
