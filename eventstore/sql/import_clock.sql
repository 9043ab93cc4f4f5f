SELECT clock_timestamp(), EXISTS (SELECT FROM {{schema}}.settings WHERE name = 'test_clock' AND value = 'on')
