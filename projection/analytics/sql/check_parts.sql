-- The newest parts that have not changed since they were computed, and as many at random: $1 those changed, $2 how many of each.
SELECT part
  FROM (SELECT part, row_number() OVER (ORDER BY part DESC) AS age FROM ({{parts}}) AS parts WHERE part <> ALL ($1)) AS aged
 ORDER BY CASE WHEN age <= $2::bigint THEN 0 ELSE random() END, age
 LIMIT 2 * $2::bigint
