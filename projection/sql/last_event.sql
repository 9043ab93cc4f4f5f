-- Within an archived month any position serves: the month goes on behind it.
SELECT greatest((SELECT max(position) FROM {{schema}}.events WHERE position <= $1::bigint),
                (SELECT max(least(last_position, $1::bigint)) FROM {{schema}}.months
                  WHERE first_position <= $1::bigint AND state IN ('detached', 'dropped')))
