package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
)

// appendWithHooks runs an append and Config.InTx in one transaction, or under a savepoint of the caller's. A race that it loses
// is run again, and once a commit whose answer was lost: by the ids, so the hooks do not run twice.
func (s *Store) appendWithHooks(ctx context.Context, requests []*appendRequest, write func(context.Context, *Store) ([]Receipt, error)) ([]Receipt, error) {
	var err error
	lost := false
	for range maxRaces {
		var receipts []Receipt
		committing := false
		err = pg.InTx(ctx, s.db, func(tx pgx.Tx) (err error) {
			receipts, err = s.hookedAppend(ctx, tx, requests, write)
			committing = err == nil
			return err
		})
		unknown := committing && err != nil && s.pool != nil && (pg.Code(err) == "" || pg.Fatal(err))
		switch {
		case err == nil:
			for i := range receipts {
				receipts[i].Repeated = receipts[i].Repeated && !lost
			}
			if s.pool != nil {
				s.news.poke()
			}
			return receipts, nil
		case s.pool == nil:
			return nil, err
		case errors.Is(err, ErrSerialization), pg.Code(err) == pg.SerializationFailure, pg.Code(err) == pg.DeadlockDetected:
			continue
		case unknown && !lost && ctx.Err() == nil:
			lost = true
			continue
		case unknown || lost:
			return nil, outcomeUnknown(requests, err)
		}
		return nil, err
	}
	if lost {
		return nil, outcomeUnknown(requests, err)
	}
	return nil, err
}

func (s *Store) hookedAppend(ctx context.Context, tx pgx.Tx, requests []*appendRequest, write func(context.Context, *Store) ([]Receipt, error)) ([]Receipt, error) {
	hooks := s.config.InTx
	if hooks.Before != nil {
		if err := hooks.Before(ctx, tx, s.config.Schema); err != nil {
			return nil, fmt.Errorf("append to %s: %w", requests[0].stream, err)
		}
	}
	receipts, err := write(ctx, s.WithTx(tx))
	if err != nil || receipts[0].Repeated {
		return receipts, err
	}
	events, err := s.recordedOf(ctx, requests, receipts)
	if err == nil {
		err = hooks.After(ctx, tx, s.config.Schema, events)
	}
	if err != nil {
		return nil, fmt.Errorf("append to %s: %w", requests[0].stream, err)
	}
	return receipts, nil
}

// recordedOf is what was just written, as a reader would see it.
func (s *Store) recordedOf(ctx context.Context, requests []*appendRequest, receipts []Receipt) ([]Recorded, error) {
	var events []Recorded
	for i, r := range requests {
		receipt := receipts[i]
		first := receipt.Version - Version(len(r.eventIDs)) + 1
		for n, id := range r.eventIDs {
			event := Recorded{
				Position: receipt.Positions[n], StreamID: r.stream, Version: first + Version(n), ID: id,
				Type: r.events.types[n], SchemaVersion: int(r.events.schemaVersions[n]),
				OccurredAt: occurredOr(r.events.occurred[n], receipt.RecordedAt), RecordedAt: receipt.RecordedAt,
				JSON: json.RawMessage(r.events.data[n]), MetadataJSON: json.RawMessage(r.events.metadata[n]),
			}
			if err := s.decode(ctx, &event); err != nil {
				return nil, err
			}
			events = append(events, event)
		}
	}
	return events, nil
}

func occurredOr(occurred *time.Time, recorded time.Time) time.Time {
	if occurred == nil {
		return recorded
	}
	return occurred.UTC()
}
