SELECT array_agg(nextval('{{schema}}.events_position_seq')) FROM generate_series(1, $1::bigint)
