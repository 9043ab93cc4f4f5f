package projection

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
)

// Inline is for [eventstore.Config].InTx: from the moment a runner has brought such a projection to the end of the log, each
// append of the store applies its own events to it, in its own transaction. What was appended can be read at once; an error
// of Apply undoes the append, which returns an [InlineError]. Nothing is parked. Until then, and after [Runner.Pause] or
// [Runner.Reset], a runner catches it up like the others.
//
// The same projections, with Spec.Inline set, belong to the Config of a [Runner]. Every store that appends to the log must
// have the hook: what others append is not seen.
func Inline(projections ...Projection) (eventstore.InTx, error) {
	known := map[string]*projection{}
	var names []string
	var versions []int32
	for _, p := range projections {
		spec := p.Spec().withDefaults()
		if err := spec.validate(); err != nil {
			return eventstore.InTx{}, err
		}
		if !spec.Inline || known[spec.Name] != nil {
			return eventstore.InTx{}, &eventstore.InvalidError{Index: -1, Field: "projections", Reason: fmt.Sprintf("hold %s, which is not inline, or is there twice", spec.Name)}
		}
		known[spec.Name] = &projection{Projection: p, spec: spec}
		names, versions = append(names, spec.Name), append(versions, int32(spec.Version))
	}
	hook := &inlineHook{known: known, names: names, versions: versions}
	return eventstore.InTx{Before: hook.before, After: hook.after}, nil
}

// InlineError is an append that was undone because an inline projection could not apply it.
type InlineError struct {
	Name    string
	Version int
	Err     error
}

func (e *InlineError) Error() string {
	return fmt.Sprintf("inline projection %s, version %d: %v", e.Name, e.Version, e.Err)
}

// Unwrap returns what Apply returned.
func (e *InlineError) Unwrap() error { return e.Err }

type inlineHook struct {
	known    map[string]*projection
	names    []string
	versions []int32

	sql sync.Map // queries by schema: of the one store, as a rule
}

func (h *inlineHook) queries(schema string) (queries, error) {
	if known, ok := h.sql.Load(schema); ok {
		return known.(queries), nil
	}
	sql, err := newQueries(pg.QuoteSchema(schema))
	if err == nil {
		h.sql.Store(schema, sql)
	}
	return sql, err
}

// before holds, to the end of the transaction, that no projection goes inline or back. It comes before any position is
// taken, so whoever has the lock alone knows that no append is in flight.
func (h *inlineHook) before(ctx context.Context, tx pgx.Tx, schema string) error {
	sql, err := h.queries(schema)
	if err != nil {
		return err
	}
	var isolation string
	err = tx.QueryRow(ctx, sql["inline_share"]).Scan(&isolation)
	if err == nil && isolation != "read committed" { // its snapshot may be older than a hand-over
		return &eventstore.InvalidError{Index: -1, Field: "transaction", Reason: "is " + isolation + ", inline projections need read committed"}
	}
	return explained(err)
}

func (h *inlineHook) after(ctx context.Context, tx pgx.Tx, schema string, events []eventstore.Recorded) error {
	sql, err := h.queries(schema)
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, sql["inline_states"], h.names, h.versions)
	if err != nil {
		return explained(err)
	}
	type active struct {
		Name    string
		Version int
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[active])
	if err != nil {
		return explained(err)
	}
	for _, a := range list {
		p := h.known[a.Name]
		batch := p.batch(schema, events)
		if len(batch.Events) == 0 {
			continue
		}
		err := guarded(func() error {
			if preparer, ok := p.Projection.(Preparer); ok {
				if err := preparer.Prepare(ctx, batch); err != nil {
					return err
				}
			}
			return p.Apply(ctx, tx, batch)
		})
		if err != nil {
			return &InlineError{Name: a.Name, Version: a.Version, Err: err}
		}
	}
	return nil
}

// batch is what an inline projection wants of events.
func (p *projection) batch(schema string, events []eventstore.Recorded) *Batch {
	batch := &Batch{Projection: p.spec.Name, Version: p.spec.Version, tables: map[string]string{}, identifiers: map[string]pgx.Identifier{}}
	for _, table := range p.spec.Tables {
		batch.identifiers[table.Name] = p.spec.physical(schema, table.Name)
		batch.tables[table.Name] = batch.identifiers[table.Name].Sanitize()
	}
	for _, e := range events {
		if p.spec.wants(&e) {
			batch.Events = append(batch.Events, e)
		}
	}
	return batch
}

const (
	// handOverWait is how long appends may be held back by a projection that goes inline.
	handOverWait    = 500 * time.Millisecond
	handOverEvery   = 250 * time.Millisecond
	handOverSeldom  = 30 * time.Second
	noteInlineEvery = 5 * time.Second
	// handOverEvents is how many events may be applied meanwhile.
	handOverEvents = 1000
)

var errNotYet = errors.New("the end of the log moves too fast, or a slow append holds it back")

// goInline applies the rest of the log while no append is in flight, and hands the projection over to the appends. It is tried
// again later where that takes too long.
func (w *worker) goInline(ctx context.Context) error {
	var upTo eventstore.Position
	err := pg.InTx(ctx, w.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, w.sql["inline_alone"], strconv.FormatInt(handOverWait.Milliseconds(), 10), strconv.FormatInt(w.config.Lease.Milliseconds(), 10)); err != nil {
			return err
		}
		if err := w.lock(ctx, tx); err != nil {
			return err
		}
		events, err := w.rest(ctx, tx)
		if err != nil {
			return err
		}
		upTo = w.cursor
		if len(events) > 0 {
			upTo = events[len(events)-1].Position
			if wanted := w.p.batch(w.store.Schema(), events).Events; len(wanted) > 0 {
				batch, err := w.prepare(ctx, wanted)
				if err != nil {
					return err
				}
				if err := w.callApply(ctx, tx, batch); err != nil {
					return err
				}
			}
		}
		if _, err := tx.Exec(ctx, w.sql["advance_checkpoint"], w.p.spec.Name, w.p.spec.Version, w.lease.Shard, position(upTo)); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, w.sql["inline_on"], w.p.spec.Name, w.p.spec.Version)
		return err
	})
	if err != nil {
		return err
	}
	w.stored, w.cursor, w.inline = upTo, upTo, true
	w.progress.tell()
	return nil
}

// watchInline waits, and moves the checkpoint now and then: it tells how much of the log nobody needs any more.
func (w *worker) watchInline(ctx context.Context) error {
	timer := time.NewTimer(noteInlineEvery)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-w.ending:
		return nil
	case <-timer.C:
	}
	settled, err := w.store.Settled(ctx)
	if err != nil {
		return err
	}
	var last *int64
	if err := w.pool.QueryRow(ctx, w.sql["last_event"], position(settled)).Scan(&last); err != nil {
		return err
	}
	if last == nil || eventstore.Position(*last) <= w.stored {
		return nil
	}
	return w.transaction(ctx, eventstore.Position(*last), nil)
}

// rest reads the log after the cursor to its very end.
func (w *worker) rest(ctx context.Context, tx pgx.Tx) ([]eventstore.Recorded, error) {
	in := w.store.WithTx(tx)
	settled, err := in.Settled(ctx)
	if err != nil {
		return nil, err
	}
	var last int64
	if err := tx.QueryRow(ctx, `SELECT `+string(pg.QuoteSchema(w.store.Schema()))+`.last_position()`).Scan(&last); err != nil {
		return nil, err
	}
	if position(settled) != last { // a store without the hook appends
		return nil, errNotYet
	}
	var events []eventstore.Recorded
	for event, err := range in.All(ctx, w.cursor, eventstore.Filter{}) {
		if err != nil {
			return nil, err
		}
		if events = append(events, event); len(events) > handOverEvents {
			return nil, errNotYet
		}
	}
	return events, nil
}
