package main

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// This file is the baseline: all SQL of the raw side, its exec mode, and the connections that both sides get.

// execMode is that of both sides: statements are prepared once a connection and then run in one round trip.
const execMode = pgx.QueryExecModeCacheStatement

// connections is the size of either side's pool for so many concurrent callers.
func connections(callers int) int { return min(callers, 100) }

// rawLog is what a good engineer writes without a library: one table, one statement a task. The version comes from the
// caller, and UNIQUE (stream_id, version) arbitrates. It gives no order that a reader could follow.
type rawLog struct{ schema string }

func (r rawLog) sql(statement string) string {
	return strings.NewReplacer("{{raw}}", r.schema, "{{columns}}", strings.Join(eventColumns(), ", ")).Replace(statement)
}

func eventColumns() []string {
	return []string{
		"position", "recorded_at", "stream_id", "version", "event_id",
		"event_type", "schema_version", "occurred_at", "event_data", "metadata",
	}
}

// tables is a copy of the log's events: the same columns, months, checks, unique constraints and rows; no triggers, no
// heads.
func (r rawLog) tables(log string) string {
	return strings.ReplaceAll(r.sql(`
CREATE SCHEMA {{raw}};
CREATE SEQUENCE {{raw}}.positions;
CREATE TABLE {{raw}}.events (LIKE {{log}}.events INCLUDING ALL) PARTITION BY RANGE (recorded_at);
DO $$
DECLARE
    leaf record;
BEGIN
    FOR leaf IN
        SELECT c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bound
          FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = '{{log}}.events'::regclass
    LOOP
        EXECUTE format('CREATE TABLE {{raw}}.%1$I (LIKE {{log}}.%1$I INCLUDING ALL)', leaf.name);
        EXECUTE format('ALTER TABLE {{raw}}.events ATTACH PARTITION {{raw}}.%1$I %2$s', leaf.name, leaf.bound);
    END LOOP;
END $$;
INSERT INTO {{raw}}.events ({{columns}}) SELECT {{columns}} FROM {{log}}.events ORDER BY position;
SELECT setval('{{raw}}.positions', max(position)) FROM {{log}}.events HAVING max(position) > 0`), "{{log}}", log)
}

// write appends to a stream whose last version the caller knows: a plain insert, committed by itself.
func (r rawLog) write(pool *pgxpool.Pool) write {
	one := r.sql(`
INSERT INTO {{raw}}.events ({{columns}})
VALUES (nextval('{{raw}}.positions'), clock_timestamp(), $1, $2, $3, 'response', 1, clock_timestamp(), $4, '{}')`)
	many := r.sql(`
INSERT INTO {{raw}}.events ({{columns}})
SELECT nextval('{{raw}}.positions'), clock_timestamp(), $1, $2 + e.n, e.id, 'response', 1, clock_timestamp(), e.data, '{}'
  FROM unnest($3::uuid[], $4::json[]) WITH ORDINALITY AS e (id, data, n)`)
	return func(ctx context.Context, stream eventstore.StreamID, last eventstore.Version, batch []focusgroup.Response) error {
		if len(batch) == 1 {
			_, err := pool.Exec(ctx, one, string(stream), int64(last+1), newID(), batch[0])
			return err
		}
		ids := make([]uuid.UUID, len(batch))
		for i := range ids {
			ids[i] = newID()
		}
		_, err := pool.Exec(ctx, many, string(stream), int64(last), ids, batch)
		return err
	}
}

// headWrite is what any head row costs: the shortest statement that moves one of the log's with a compare-and-set and
// inserts one event, without a fence, a month's state, a retry's answer or a right of its own.
func (r rawLog) headWrite(pool *pgxpool.Pool, log string) write {
	begin := strings.ReplaceAll(`INSERT INTO {{log}}.streams VALUES ($1, NULL, 0, clock_timestamp(), clock_timestamp())`, "{{log}}", log)
	one := strings.ReplaceAll(r.sql(`
WITH head AS (
  UPDATE {{log}}.streams SET version = version + 1, last_recorded_at = greatest(last_recorded_at, clock_timestamp())
   WHERE stream_id = $1 AND version = $2 RETURNING version, last_recorded_at)
INSERT INTO {{log}}.events ({{columns}})
SELECT nextval('{{log}}.events_position_seq'), last_recorded_at, $1, version, $3, 'response', 1, last_recorded_at, $4, '{}' FROM head`), "{{log}}", log)
	return func(ctx context.Context, stream eventstore.StreamID, last eventstore.Version, batch []focusgroup.Response) error {
		if last == 0 {
			if _, err := pool.Exec(ctx, begin, string(stream)); err != nil {
				return err
			}
		}
		_, err := pool.Exec(ctx, one, string(stream), int64(last), newID(), batch[0])
		return err
	}
}

// copy writes a recording with one COPY. Its client counts the positions: COPY calls no nextval.
func (r rawLog) copy(ctx context.Context, pool *pgxpool.Pool, position *int64, source *recording) error {
	rows := pgx.CopyFromFunc(func() ([]any, error) {
		stream, version, response, ok := source.next()
		if !ok {
			return nil, nil
		}
		*position++
		now := time.Now()
		return []any{*position, now, string(stream), version, newID(), "response", 1, now, response, "{}"}, nil
	})
	_, err := pool.CopyFrom(ctx, pgx.Identifier{r.schema, "events"}, eventColumns(), rows)
	return err
}

// fields are where a row's columns go, in the fields that the library fills. (pgx is slower with types of one's own.)
func fields(e *eventstore.Recorded) []any {
	return []any{
		(*int64)(&e.Position), &e.RecordedAt, (*string)(&e.StreamID), (*int64)(&e.Version), &e.ID,
		&e.Type, &e.SchemaVersion, &e.OccurredAt, (*[]byte)(&e.JSON), (*[]byte)(&e.MetadataJSON),
	}
}

// all reads the rows after a position in pages of 1,000, by position.
func (r rawLog) all(ctx context.Context, pool *pgxpool.Pool, after int64, each func(*eventstore.Recorded) error) error {
	page := r.sql(`SELECT {{columns}} FROM {{raw}}.events WHERE position > $1 ORDER BY position LIMIT 1000`)
	event := eventstore.Recorded{Position: eventstore.Position(after)}
	for {
		found, err := forEach(ctx, pool, fields(&event), func() error { return each(&event) }, page, int64(event.Position))
		if err != nil || found < 1000 {
			return err
		}
	}
}

// stream reads a stream and returns the number of its events.
func (r rawLog) stream(ctx context.Context, pool *pgxpool.Pool, id eventstore.StreamID) (int, error) {
	var event eventstore.Recorded
	return forEach(ctx, pool, fields(&event), func() error { return nil },
		r.sql(`SELECT {{columns}} FROM {{raw}}.events WHERE stream_id = $1 ORDER BY version`), string(id))
}

// last asks for the position of the last row.
func (r rawLog) last(ctx context.Context, pool *pgxpool.Pool) error {
	var position int64
	return pool.QueryRow(ctx, r.sql(`SELECT max(position) FROM {{raw}}.events`)).Scan(&position)
}

// follow looks for new rows every 5 ms. It skips those that commit after a later one.
func (r rawLog) follow(ctx context.Context, pool *pgxpool.Pool, each func(place) bool) error {
	news := r.sql(`SELECT position, stream_id, version FROM {{raw}}.events WHERE position > $1 ORDER BY position LIMIT 1000`)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var cursor int64
	for {
		var at place
		_, err := forEach(ctx, pool, []any{&cursor, (*string)(&at.Stream), (*int64)(&at.Version)}, func() error {
			if !each(at) {
				return errEnough
			}
			return nil
		}, news, cursor)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// forEach runs a query, scans its rows one by one, and counts them.
func forEach(ctx context.Context, pool *pgxpool.Pool, into []any, each func() error, sql string, args ...any) (int, error) {
	rows, err := pool.Query(ctx, sql, args...) //nolint:rowserrcheck // ForEachRow returns it
	if err != nil {
		return 0, err
	}
	found, err := pgx.ForEachRow(rows, into, each)
	return int(found.RowsAffected()), err
}

func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }
