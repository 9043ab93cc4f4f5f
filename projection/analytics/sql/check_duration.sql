SELECT position, timestamp, duration_seconds FROM {{fact}} WHERE duration_seconds < 0 OR duration_seconds > {{limit}}
