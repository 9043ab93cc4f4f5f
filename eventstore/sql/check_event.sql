SELECT coalesce((SELECT event_id FROM {{schema}}.events WHERE position = $1::bigint AND recorded_at = $2::timestamptz),
                '00000000-0000-0000-0000-000000000000'::uuid),
       {{schema}}.last_position()
