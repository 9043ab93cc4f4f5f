-- The same as digest.go: blocks of 10,000 events in position order. Texts with their length before them, so that no two logs
-- are encoded alike. OFFSET 0 has the events hashed below the sort, by parallel workers where there are any.
SELECT coalesce(sum(b.rows), 0)::bigint, coalesce(sha256(string_agg(b.digest, ''::bytea ORDER BY b.n)), sha256(''))
  FROM (SELECT o.n, count(*) AS rows, sha256(string_agg(o.digest, ''::bytea ORDER BY o.position)) AS digest
          FROM (SELECT position, digest, (row_number() OVER (ORDER BY position) - 1) / 10000 AS n
                  FROM (SELECT position,
                               sha256(int8send(position) || timestamptz_send(recorded_at)
                                      || int4send(octet_length(stream_id)) || convert_to(stream_id, 'UTF8')
                                      || int8send(version) || uuid_send(event_id)
                                      || int4send(octet_length(event_type)) || convert_to(event_type, 'UTF8')
                                      || int4send(schema_version) || timestamptz_send(occurred_at)
                                      || int4send(octet_length(event_data::text)) || convert_to(event_data::text, 'UTF8')
                                      || int4send(octet_length(metadata::text)) || convert_to(metadata::text, 'UTF8')) AS digest
                          FROM {{table}} OFFSET 0) AS e) AS o
         GROUP BY o.n) AS b
