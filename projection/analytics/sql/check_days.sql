-- The days that facts lie in, and those after them on which they count, up to the last refresh: a probe of the index a day.
WITH days AS MATERIALIZED (SELECT d.day FROM {{dim_date}} d WHERE d.day <= {{today}} AND ({{facts}}))
SELECT DISTINCT {{part}} AS part FROM days CROSS JOIN generate_series(0, {{reach}}) AS n WHERE day + n <= {{today}}
