-- The same as digest.go: blocks of 10,000 events in position order. Texts with their length before them, so that no two logs
-- are encoded alike.
SELECT coalesce(sum(b.rows), 0)::bigint, coalesce(sha256(string_agg(b.digest, ''::bytea ORDER BY b.n)), sha256(''))
  FROM (SELECT e.n, count(*) AS rows, sha256(string_agg(e.digest, ''::bytea ORDER BY e.position)) AS digest
          FROM (SELECT position, (row_number() OVER (ORDER BY position) - 1) / 10000 AS n,
                       sha256(int8send(position) || timestamptz_send(recorded_at)
                              || int4send(octet_length(stream_id)) || convert_to(stream_id, 'UTF8')
                              || int8send(version) || uuid_send(event_id)
                              || int4send(octet_length(event_type)) || convert_to(event_type, 'UTF8')
                              || int4send(schema_version) || timestamptz_send(occurred_at)
                              || int4send(octet_length(event_data::text)) || convert_to(event_data::text, 'UTF8')
                              || int4send(octet_length(metadata::text)) || convert_to(metadata::text, 'UTF8')) AS digest
                  FROM {{table}}) AS e
         GROUP BY e.n) AS b
