SELECT o_name, o_version, o_shard, o_epoch, o_give_back
  FROM {{schema}}.lease_shards($1::text, $2::text[], $3::integer[], $4::integer[], $5::bigint * interval '1 microsecond')
