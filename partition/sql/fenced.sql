SELECT o_settled, o_last FROM {{schema}}.settled_position(-1)
