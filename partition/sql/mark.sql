-- A compare-and-set of the state; the revision tells readers that their list of months is old.
UPDATE {{schema}}.months SET state = $3::text, revision = revision + 1, changed_at = clock_timestamp()
 WHERE month = $1::text::date AND state = $2::text
