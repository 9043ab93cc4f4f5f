package eventstore

import (
	"context"
	"fmt"
	"iter"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
)

// All yields the events after a position (0: from the start) that pass the filter, in position order, up to the position
// that was settled when the loop began. No committed event is ever skipped: one that is not settled yet comes later,
// above the last position this call yields. To go on, pass the last position yielded, if it is kept in the same
// database; anywhere else keep a [Cursor]. It fetches Config.PageSize events at a time and holds no connection while the
// loop's body runs. An error comes last and once.
func (s *Store) All(ctx context.Context, after Position, filter Filter) iter.Seq2[Recorded, error] {
	return func(yield func(Recorded, error) bool) {
		reader, err := s.openLog(ctx, after, filter)
		if err != nil {
			yield(Recorded{}, err)
			return
		}
		s.drain(ctx, reader, yield)
	}
}

// openLog plans what there is to read after a position now.
func (s *Store) openLog(ctx context.Context, after Position, filter Filter) (*logReader, error) {
	reader, err := s.newLogReader(after, filter)
	if err == nil {
		_, err = reader.survey(ctx)
	}
	return reader, err
}

// drain yields what the reader's survey planned, decoded; false says that the loop is over.
func (s *Store) drain(ctx context.Context, reader *logReader, yield func(Recorded, error) bool) bool {
	for {
		page, err := reader.page(ctx, s.config.PageSize)
		if err != nil {
			yield(Recorded{}, err)
			return false
		}
		if len(page) == 0 {
			return true
		}
		for i := range page {
			if err := s.decode(ctx, &page[i]); err != nil {
				yield(Recorded{}, err)
				return false
			}
			if !yield(page[i], nil) {
				return false
			}
		}
	}
}

// PageQuery asks for a page of the global log, for HTTP handlers and other callers that cannot keep an iterator.
type PageQuery struct {
	// After is the Next of the page before. Defaults to the start of the log.
	After Cursor
	// Limit is the largest number of events. Defaults to 100; at most 10,000.
	Limit  int
	Filter Filter
}

// Page is a part of the global log.
type Page struct {
	Events []Recorded
	// Next continues after this page. On a page without events it is the After that was asked with: ask again later. (The
	// log after it is then looked through again; a filter that chooses almost nothing is better served by Follow.)
	Next Cursor
	// More says that the log held further events that pass the filter.
	More bool
}

const maxPageLimit = 10_000

// Page returns a page of the global log. Errors match [ErrBadCursor], [ErrLogRewound], [ErrArchived] or [ErrInvalid].
func (s *Store) Page(ctx context.Context, query PageQuery) (Page, error) {
	if query.Limit == 0 {
		query.Limit = 100
	}
	if query.Limit < 0 || query.Limit > maxPageLimit {
		return Page{}, &InvalidError{Index: -1, Field: "PageQuery.Limit", Reason: fmt.Sprintf("is not within 1 and %d", maxPageLimit)}
	}
	after, err := s.Resume(ctx, query.After)
	if err != nil {
		return Page{}, err
	}
	reader, err := s.openLog(ctx, after, query.Filter)
	if err != nil {
		return Page{}, err
	}
	page := Page{Next: query.After}
	for want := query.Limit + 1; want > 0; { // one more tells whether there is more
		events, err := reader.page(ctx, want)
		if err != nil {
			return Page{}, err
		}
		if len(events) == 0 {
			break
		}
		page.Events = append(page.Events, events...)
		want -= len(events)
	}
	if page.More = len(page.Events) > query.Limit; page.More {
		page.Events = page.Events[:query.Limit]
	}
	for i := range page.Events {
		if err := s.decode(ctx, &page.Events[i]); err != nil {
			return Page{}, err
		}
	}
	if n := len(page.Events); n > 0 {
		page.Next = page.Events[n-1].Cursor()
	}
	return page, nil
}

// Settled returns the settled position: every event up to it is committed and visible, and none will be added below while
// the server runs. It is a bound, not a cursor: go on from the last event read, because a crash of the server may give
// numbers above that event, which only rolled-back appends took, out again. In a transaction of stricter isolation and
// on a standby it is the position last stored by [Store.Settle].
func (s *Store) Settled(ctx context.Context) (Position, error) {
	found, err := s.settled(ctx, -1)
	if err != nil {
		return 0, fmt.Errorf("settling the log: %w", err)
	}
	return found.settled, nil
}

// settled asks from a cursor: the position of a committed event that was read, or -1.
func (s *Store) settled(ctx context.Context, cursor Position) (settlement, error) {
	return settleWith(ctx, s, func(db pg.DB) (settlement, error) {
		return scanSettled(db.QueryRow(ctx, s.sql.settled, int64(cursor)))
	})
}

// Settle stores the settled position for readers under stricter isolation and on standbys, and returns it. Call it from
// maintenance where there are such readers; the stored position never goes back. In a caller's transaction that must be
// READ COMMITTED.
func (s *Store) Settle(ctx context.Context) (Position, error) {
	var settled int64
	err := pg.InTx(ctx, s.db, func(tx pgx.Tx) error { return tx.QueryRow(ctx, s.sql.settle).Scan(&settled) })
	if err != nil {
		return 0, fmt.Errorf("storing the settled position: %w", allowed(err))
	}
	return Position(settled), nil
}

// checkEvent verifies that an event still stands where a reader saw it.
func (s *Store) checkEvent(ctx context.Context, place place) error {
	var id uuid.UUID
	var last int64
	err := s.db.QueryRow(ctx, s.sql.checkEvent, int64(place.position), place.recordedAt).Scan(&id, &last)
	if err != nil {
		return fmt.Errorf("checking the cursor: %w", err)
	}
	if id == uuid.Nil {
		if id, err = s.idAt(ctx, place); err != nil {
			return fmt.Errorf("checking the cursor: %w", err)
		}
	}
	if id != place.eventID {
		return &RewoundError{Position: place.position, EventID: place.eventID, Last: Position(last)}
	}
	return nil
}
