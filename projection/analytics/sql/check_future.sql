SELECT position, timestamp FROM {{fact}} WHERE timestamp > now() + interval '5 minutes'
