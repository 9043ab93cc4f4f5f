SELECT month::timestamp, state, revision FROM {{schema}}.months ORDER BY month
