DELETE FROM {{schema}}.snapshots WHERE ctid = ANY (ARRAY(
    SELECT s.ctid FROM {{schema}}.snapshots s
     WHERE s.fold = $1::text AND ((s.fold_version, s.format) < ($2::integer, $3::integer)
        OR (s.fold, s.fold_version, s.format) IN (SELECT q.fold, q.fold_version, q.format FROM {{schema}}.snapshot_quarantine q))
     LIMIT 1000))
