package eventstore_test

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
)

// storedEvent is an event as the table holds it, when everything has ended.
type storedEvent struct {
	Position eventstore.Position
	Stream   eventstore.StreamID
	Version  eventstore.Version
	ID       uuid.UUID
}

// check compares what the reader was given, and what the appenders were told, with what the log holds in the end.
func (w *world) check(ctx context.Context, appenders []*appending, r *reading, v *visit) error {
	rows, err := w.admin.Query(ctx, `SELECT position, stream_id, version, event_id FROM `+w.schema+`.events WHERE position > $1 ORDER BY position`, int64(r.start))
	if err != nil {
		return err
	}
	stored, err := pgx.CollectRows(rows, pgx.RowToStructByPos[storedEvent])
	if err != nil {
		return err
	}
	want := make([]delivery, len(stored))
	for i, e := range stored {
		want[i] = delivery{e.Position, e.Stream, e.Version}
		w.streams[e.Stream]++
		if w.streams[e.Stream] != e.Version {
			v.fault = fmt.Sprintf("%s holds version %d where %d belongs", e.Stream, e.Version, w.streams[e.Stream])
			w.streams[e.Stream] = e.Version
		}
	}
	if !slices.Equal(want, r.delivered) { // what the reader has not looked for yet it will find
		if err := w.drain(ctx, r); err != nil {
			return err
		}
	}
	if !slices.Equal(want, r.delivered) {
		v.skip = fmt.Sprintf("the reader was given %v, the log holds %v", r.delivered, want)
	}
	for _, ap := range appenders {
		if fault := ap.check(stored); fault != "" {
			v.fault = fault
		}
	}
	if err := w.director.Actors()[maxAppenders].Err; err != nil {
		v.fault = fmt.Sprintf("the reader failed: %v", err)
	}
	for _, c := range r.claims {
		for _, ap := range c.open {
			if i := slices.IndexFunc(stored, func(e storedEvent) bool { return e.Position <= c.settled && ap.has(e.ID) }); i >= 0 {
				v.fault = fmt.Sprintf("%d was said to be settled, and %d was committed later", c.settled, stored[i].Position)
			}
		}
	}
	if len(stored) > 0 { // the next interleaving begins here, whatever this reader missed
		w.cursor = stored[len(stored)-1].Position
	}
	return nil
}

// has says whether an event is of an append of this one's.
func (ap *appending) has(id uuid.UUID) bool {
	return slices.ContainsFunc(ap.units, func(u *unit) bool { return slices.Contains(u.ids, id) })
}

// check says which promise to the appender is broken.
func (ap *appending) check(stored []storedEvent) string {
	killed := ap.plan.kill != never || ap.plan.killDuring != never
	if err := ap.actor.Err; err != nil && !killed && !eventstore.Retryable(err) {
		return fmt.Sprintf("%s failed: %v", ap.actor.Name, err)
	}
	for _, u := range ap.units {
		n := 0
		for _, e := range stored {
			if slices.Contains(u.ids, e.ID) {
				n++
			}
		}
		switch {
		case u.fate == committed && n != len(u.ids):
			return fmt.Sprintf("%s: %d of %d acknowledged events are in the log", ap.actor.Name, n, len(u.ids))
		case u.fate == gone && n > 0:
			return fmt.Sprintf("%s: %d events are in the log that did not commit", ap.actor.Name, n)
		case n > 0 && n != len(u.ids):
			return fmt.Sprintf("%s: %d of %d events are in the log", ap.actor.Name, n, len(u.ids))
		}
	}
	return ""
}
