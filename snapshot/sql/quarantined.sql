SELECT EXISTS (SELECT FROM {{schema}}.snapshot_quarantine WHERE fold = $1::text AND fold_version = $2::integer AND format = $3::integer)
