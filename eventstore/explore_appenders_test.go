package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/explore"
	"github.com/sight-platform/hindsight/internal/pg"
)

// ending is how an appender appends, and how that ends.
type ending string

const (
	endCommit        ending = "commit"
	endRollback      ending = "rollback"
	endSlow          ending = "slow commit" // after everybody else
	endSavepoint     ending = "savepoint rolled back, appended again, commit"
	endSavepointLost ending = "savepoint rolled back, appended again, rollback"
	endRefused       ending = "AppendMany refused, appended again, commit"
	endTwice         ending = "two appends, commit"
	endPrepared      ending = "prepared, committed"
	endPreparedLost  ending = "prepared, rolled back"
	endAlone         ending = "its own transaction"
	endMany          ending = "AppendMany, its own transaction"
	endGroup         ending = "a group's statement"
	endTogether      ending = "concurrent calls"
	endImport        ending = "an import"
	endImportKept    ending = "an import that keeps its positions"
	endNothing       ending = "nothing"
)

// streamKind is where an appender appends.
type streamKind string

const (
	newStream      streamKind = "a new stream"
	existingStream streamKind = "its stream"
	sharedStream   streamKind = "the common stream"
	sharedNew      streamKind = "the common new stream"
)

// plan is what an appender is about to do.
type plan struct {
	ending ending
	stream streamKind
	events int  // in each append
	exact  bool // the stream is expected at the version it has at the beginning
	// The session is killed before its step of this number (from 0), or during it.
	kill, killDuring int
}

// never is the step of a plan that is not killed.
const never = -1

func plainPlan(e ending) plan {
	return plan{ending: e, stream: newStream, events: 1, kill: never, killDuring: never}
}

func (p plan) String() string {
	text := fmt.Sprintf("%s: %d to %s", p.ending, p.events, p.stream)
	if p.exact {
		text += " at its version"
	}
	if p.kill != never {
		text += fmt.Sprintf(", killed before step %d", p.kill+1)
	}
	if p.killDuring != never {
		text += fmt.Sprintf(", killed during step %d", p.killDuring+1)
	}
	return text
}

// fate is what must have become of events.
type fate int

const (
	gone      fate = iota // rolled back, refused, killed
	committed             // acknowledged
	unknown               // killed in its commit
)

// unit is events that are in the log together or not at all.
type unit struct {
	ids  []uuid.UUID
	fate fate
}

// appending is an appender at work.
type appending struct {
	plan     plan
	actor    *explore.Actor
	store    *eventstore.Store
	pool     *pgxpool.Pool
	run      int
	id       eventstore.StreamID
	after    eventstore.Position // the end of the log
	expected eventstore.Expected

	steps  int
	racing bool // killed in its commit

	mu    sync.Mutex
	units []*unit
}

func (w *world) newAppending(a *explore.Actor, p plan) *appending {
	ap := &appending{
		plan: p, actor: a, store: w.stores[a.Index], pool: w.pools[a.Index], run: w.runs, after: w.cursor, expected: eventstore.Any,
	}
	switch p.stream {
	case newStream:
		ap.id = ap.another("new")
	case existingStream:
		ap.id = oldStream(a.Index)
	case sharedStream:
		ap.id = oldStream(maxAppenders)
	case sharedNew:
		ap.id = eventstore.StreamID(fmt.Sprintf("shared-%d", w.runs))
	}
	if p.exact {
		ap.expected = eventstore.AtVersion(w.streams[ap.id])
	}
	return ap
}

// another names a stream of this appender alone.
func (ap *appending) another(category string) eventstore.StreamID {
	return eventstore.StreamID(fmt.Sprintf("%s-%d-%s", category, ap.run, ap.actor.Name))
}

func (ap *appending) begin() *unit {
	ap.mu.Lock()
	defer ap.mu.Unlock()
	u := &unit{}
	ap.units = append(ap.units, u)
	return u
}

// step lets the appender take a step, or kills it if the plan says so.
func (ap *appending) step(ctx context.Context, d *explore.Director) error {
	number, gate := ap.steps, ap.actor.At()
	ap.steps++
	var err error
	switch number {
	case ap.plan.kill:
		err = d.Kill(ctx, ap.actor)
	case ap.plan.killDuring:
		ap.racing = gate == gateCommit
		err = d.KillDuring(ctx, ap.actor)
	default:
		return d.Step(ctx, ap.actor)
	}
	ap.pool.Reset() // it may not have noticed
	return err
}

// program is what the appender does. Its error is what ended it early: a kill, a deadlock.
func (ap *appending) program(ctx context.Context) error {
	switch ap.plan.ending {
	case endAlone:
		return ap.alone(ctx, ap.id, ap.expected)
	case endMany:
		u := ap.begin()
		_, err := ap.store.AppendMany(ctx, ap.part(u, ap.id, ap.expected), ap.part(u, ap.another("second"), eventstore.Any))
		return ap.verdict(u, err)
	case endGroup:
		return ap.group(ctx)
	case endTogether:
		return ap.together(ctx)
	case endImport, endImportKept:
		return ap.imported(ctx)
	}
	conn, err := ap.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()                                    // a session that is still in a transaction is closed by that
	begin := `BEGIN; SET LOCAL ` + explore.Pass(gateAnswer) // the client has a gate of its own there
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: begin})
	if err != nil {
		return err
	}
	u := ap.begin()
	if err := ap.within(ctx, tx, u); err != nil {
		return errors.Join(err, ignoreClosed(tx.Rollback(ctx)))
	}
	switch ap.plan.ending {
	case endRollback, endSavepointLost:
		if err := ap.actor.Pause(ctx, gateRollback); err != nil {
			return err
		}
		return tx.Rollback(ctx)
	case endPrepared, endPreparedLost:
		return ap.prepare(ctx, conn, u)
	}
	if err := ap.actor.Pause(ctx, gateCommit); err != nil {
		return err
	}
	err = tx.Commit(ctx)
	switch {
	case err == nil:
		u.fate = committed
	case ap.racing:
		u.fate = unknown
	}
	return err
}

// within does what comes before the end of a transaction.
func (ap *appending) within(ctx context.Context, tx pgx.Tx, u *unit) error {
	store := ap.store.WithTx(tx)
	switch ap.plan.ending {
	case endSavepoint, endSavepointLost:
		if _, err := tx.Exec(ctx, `SAVEPOINT s`); err != nil {
			return err
		}
		if err := ap.append(ctx, store, ap.begin()); err != nil {
			return err
		}
		if err := ap.actor.Pause(ctx, gateSavepoint); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `ROLLBACK TO SAVEPOINT s`); err != nil {
			return err
		}
	case endRefused: // the second stream is not as expected, when the first is written
		lost := ap.begin()
		_, err := store.AppendMany(ctx, ap.part(lost, ap.another("first"), eventstore.Any), ap.part(lost, oldStream(ap.actor.Index), eventstore.NoStream))
		if !errors.Is(err, eventstore.ErrConflict) {
			return err
		}
	case endTwice:
		if err := ap.append(ctx, store, u); err != nil {
			return err
		}
		ap.expected = eventstore.Any
	}
	return ap.append(ctx, store, u)
}

// part makes the events of an append.
func (ap *appending) part(u *unit, id eventstore.StreamID, expected eventstore.Expected) eventstore.StreamAppend {
	part := eventstore.StreamAppend{StreamID: id, Expected: expected}
	for range ap.plan.events {
		event := eventstore.Event{ID: uuid.Must(uuid.NewV7()), Data: note{ap.actor.Name}}
		part.Events = append(part.Events, event)
		u.ids = append(u.ids, event.ID)
	}
	return part
}

// append appends in a transaction, which goes on after a conflict.
func (ap *appending) append(ctx context.Context, store *eventstore.Store, u *unit) error {
	before := len(u.ids)
	part := ap.part(u, ap.id, ap.expected)
	_, err := store.Append(ctx, part.StreamID, part.Expected, part.Events...)
	if errors.Is(err, eventstore.ErrConflict) {
		ap.actor.Say(err.Error())
		lost := ap.begin()
		lost.ids = u.ids[before:]
		u.ids = u.ids[:before:before]
		return nil
	}
	return err
}

// alone appends in a transaction of the store's, which tries again by itself where the session is killed.
func (ap *appending) alone(ctx context.Context, id eventstore.StreamID, expected eventstore.Expected) error {
	u := ap.begin()
	part := ap.part(u, id, expected)
	_, err := ap.store.Append(ctx, part.StreamID, part.Expected, part.Events...)
	return ap.verdict(u, err)
}

// verdict notes what the store says of an append of its own.
func (ap *appending) verdict(u *unit, err error) error {
	switch {
	case err == nil:
		u.fate = committed
	case errors.Is(err, eventstore.ErrOutcomeUnknown):
		u.fate = unknown
	case errors.Is(err, eventstore.ErrConflict), errors.Is(err, eventstore.ErrPositions): // others were faster
		ap.actor.Say(err.Error())
		return nil
	}
	return err
}

// together calls Append from several goroutines at once: of four, two at most find a lane, and the others share a statement.
func (ap *appending) together(ctx context.Context) error {
	var calls sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		id, expected := ap.another(fmt.Sprint("call", i)), eventstore.Any
		if i == 3 {
			id, expected = ap.id, ap.expected
		}
		calls.Go(func() { errs[i] = ap.alone(ctx, id, expected) })
	}
	calls.Wait()
	return errors.Join(errs...)
}

// group runs the statement of a group, for two streams; it leaves out a stream whose head another holds.
func (ap *appending) group(ctx context.Context) error {
	units := []*unit{ap.begin(), ap.begin()}
	receipts, err := ap.store.AppendAsGroup(ctx, ap.part(units[0], ap.id, ap.expected), ap.part(units[1], ap.another("second"), eventstore.Any))
	for i, u := range units {
		switch {
		case err != nil:
			_ = ap.verdict(u, err)
		case receipts[i] != nil:
			u.fate = committed
		}
	}
	return err
}

// positionsLeft is how far above the log an import puts the positions that it keeps, for others to append below them.
const positionsLeft = 1000

// imported imports the events.
func (ap *appending) imported(ctx context.Context) error {
	u := ap.begin()
	source := func(string) iter.Seq2[eventstore.Imported, error] {
		return func(yield func(eventstore.Imported, error) bool) {
			for i, event := range ap.part(u, ap.id, ap.expected).Events {
				item := eventstore.Imported{StreamID: ap.id, Event: event.(eventstore.Event), Position: ap.after + positionsLeft + eventstore.Position(i)}
				if !yield(item, nil) {
					return
				}
			}
		}
	}
	ctx = context.WithValue(ctx, clientKey{}, ap)
	_, err := ap.store.Import(ctx, source, eventstore.ImportConfig{KeepPositions: ap.plan.ending == endImportKept})
	return ap.verdict(u, err)
}

// prepare leaves the transaction to a second phase, which any session can bring about: where this one is killed, another.
func (ap *appending) prepare(ctx context.Context, conn *pgxpool.Conn, u *unit) error {
	if err := ap.actor.Pause(ctx, gatePrepare); err != nil {
		return err
	}
	xid := fmt.Sprintf("%s %d %d", ap.store.Schema(), ap.run, ap.actor.Index)
	second := `COMMIT PREPARED '` + xid + `'`
	fate := committed
	if ap.plan.ending == endPreparedLost {
		second, fate = `ROLLBACK PREPARED '`+xid+`'`, gone
	}
	_, killed := conn.Exec(ctx, `PREPARE TRANSACTION '`+xid+`'`)
	if killed == nil {
		if err := ap.actor.Pause(ctx, gateEndPrepared); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, second)
		if err == nil {
			u.fate = fate
			return nil
		}
	}
	conn.Release()
	if err := ap.actor.Pause(ctx, gateEndPrepared); err != nil {
		return err
	}
	_, err := ap.pool.Exec(ctx, second)
	if pg.Code(err) == undefinedObject { // there is none: it was never prepared, or has ended already
		if err = killed; err == nil {
			u.fate = fate
		}
	} else if err == nil {
		u.fate = fate
	}
	return err
}

// undefinedObject is the SQLSTATE of a second phase without a prepared transaction.
const undefinedObject = "42704"

func ignoreClosed(err error) error {
	if errors.Is(err, pgx.ErrTxClosed) {
		return nil
	}
	return err
}
