package eventstore_test

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/explore"
)

// readerKind is how the reader reads.
type readerKind string

const (
	noReader             readerKind = "no reader"
	readerAll            readerKind = "All"
	readerPages          readerKind = "Page"
	readerFollow         readerKind = "Follow"
	readerStored         readerKind = "Settle, All in REPEATABLE READ"
	readerInOneStatement readerKind = "one statement" // a mistake: settles and reads in one snapshot
)

// reading is what a reader has been given in an interleaving.
type reading struct {
	start     eventstore.Position // where it began
	surveys   int
	small     bool
	delivered []delivery
	claims    []claim
	sentinel  atomic.Int64 // the event that ends a follower
	paged     bool         // the survey under way has asked for a page
}

// delivery is an event as a reader was given it.
type delivery struct {
	position eventstore.Position
	stream   eventstore.StreamID
	version  eventstore.Version
}

// claim is a settled position, and the appenders that had not ended when it was found.
type claim struct {
	settled eventstore.Position
	open    []*appending
}

// program is what the reader does in an interleaving.
func (w *world) program(kind readerKind, a *explore.Actor, r *reading) func(context.Context) error {
	store := w.stores[maxAppenders]
	if r.small {
		store = w.fewStore
	}
	return func(ctx context.Context) error {
		ctx = context.WithValue(ctx, clientKey{}, r)
		if kind == readerFollow {
			return w.take(a, r, store.Follow(ctx, w.cursor, eventstore.Filter{}))
		}
		for range r.surveys {
			r.paged = false
			if err := w.look(ctx, kind, store, a, r); err != nil {
				return err
			}
			if !r.paged { // a look that finds nothing has the same steps
				if err := a.Pause(ctx, gatePage); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// look reads once, from the last event that was read.
func (w *world) look(ctx context.Context, kind readerKind, store *eventstore.Store, a *explore.Actor, r *reading) error {
	switch kind {
	case readerPages:
		for more := true; more; {
			page, err := store.Page(ctx, eventstore.PageQuery{After: w.mark, Limit: 2})
			if err != nil {
				return err
			}
			if err := w.take(a, r, eachOf(page.Events)); err != nil {
				return err
			}
			more = page.More
		}
		return nil
	case readerStored:
		if _, err := store.Settle(ctx); err != nil {
			return err
		}
		return pgx.BeginTxFunc(ctx, w.pools[maxAppenders], pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
			return w.take(a, r, store.WithTx(tx).All(ctx, w.cursor, eventstore.Filter{}))
		})
	case readerInOneStatement:
		if err := a.Pause(ctx, gateStatement); err != nil {
			return err
		}
		return w.lookInOneStatement(ctx, a, r)
	default:
		return w.take(a, r, store.All(ctx, w.cursor, eventstore.Filter{}))
	}
}

// lookInOneStatement is the reader that doc.go warns of.
func (w *world) lookInOneStatement(ctx context.Context, a *explore.Actor, r *reading) error {
	rows, err := w.pools[maxAppenders].Query(ctx, `WITH s AS MATERIALIZED (SELECT o_settled FROM `+w.schema+`.settled_position($1))
		SELECT position, stream_id, version FROM `+w.schema+`.events
		 WHERE position > $1 AND position <= (SELECT o_settled FROM s) ORDER BY position`, int64(w.cursor))
	if err != nil {
		return err
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (d delivery, err error) {
		if err = row.Scan(&d.position, &d.stream, &d.version); err == nil {
			w.deliver(a, r, d)
		}
		return d, err
	})
	return err
}

func eachOf(events []eventstore.Recorded) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for _, event := range events {
			if !yield(event, nil) {
				return
			}
		}
	}
}

// take notes what a reader is given, up to the sentinel.
func (w *world) take(a *explore.Actor, r *reading, events iter.Seq2[eventstore.Recorded, error]) error {
	for event, err := range events {
		if err != nil {
			return err
		}
		w.mark = event.Cursor()
		w.deliver(a, r, delivery{event.Position, event.StreamID, event.Version})
		if int64(event.Position) == r.sentinel.Load() {
			return nil
		}
	}
	return nil
}

func (w *world) deliver(a *explore.Actor, r *reading, d delivery) {
	w.cursor = d.position
	r.delivered = append(r.delivered, d)
	if a != nil {
		a.Say(fmt.Sprintf("delivers %d (%s, version %d)", d.position, d.stream, d.version))
	}
}

// drain reads what is left, without gates, from where the reader stands.
func (w *world) drain(ctx context.Context, r *reading) error {
	return w.take(nil, r, w.plain.All(ctx, w.cursor, eventstore.Filter{}))
}

// appendSentinel appends the event that a follower ends with.
func (w *world) appendSentinel(ctx context.Context, r *reading) error {
	receipt, err := w.plain.Append(ctx, "sentinel-1", eventstore.Any, note{"sentinel"})
	if err != nil {
		return err
	}
	r.sentinel.Store(int64(receipt.Position()))
	return nil
}

// noteClaim remembers a settled position that the reader has found: no event up to it may be committed from now on. (Who
// makes concurrent calls is left out: some of them have ended.)
func (r *reading) noteClaim(detail string, appenders []*appending) error {
	var c claim
	if _, err := fmt.Sscanf(detail, "S = %d", &c.settled); err != nil {
		return fmt.Errorf("the gate %q says %q: %w", gateProbe, detail, err)
	}
	for _, ap := range appenders {
		if !ap.actor.Ended() && ap.plan.ending != endTogether {
			c.open = append(c.open, ap)
		}
	}
	r.claims = append(r.claims, c)
	return nil
}
