SELECT p.o_settled, coalesce(p.o_last, p.o_settled),
       EXISTS (SELECT FROM {{schema}}.months WHERE month = date_trunc('month', now() AT TIME ZONE 'UTC')),
       EXISTS (SELECT FROM {{schema}}.months WHERE month = date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month'),
       clock_timestamp()
  FROM {{schema}}.settled_position(-1) AS p
