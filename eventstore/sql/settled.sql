SELECT o_settled, coalesce(o_last, -1), o_months, o_server_started FROM {{schema}}.settled_position($1::bigint)
