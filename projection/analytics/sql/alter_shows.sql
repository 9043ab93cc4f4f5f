-- Whether a view shows a table.
SELECT EXISTS (SELECT FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                WHERE r.ev_class = to_regclass($1::text) AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $2::text::regclass)
