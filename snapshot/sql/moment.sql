SELECT {{schema}}.moment_after($1::timestamptz)
