package explore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/internal/pg"
)

// Director opens the gates of its actors, one at a time, and notes what they do. It is for one goroutine.
type Director struct {
	conn   *pgx.Conn // holds the gates' locks
	actors []*Actor
	trace  []Done
}

// Done is a step that was taken.
type Done struct {
	Step
	Who    string // the actor's name
	Result string // what the actor said, and the detail of the gate it came to
}

func (d Done) String() string {
	if d.Result == "" {
		return d.Who + ": " + d.Name
	}
	return d.Who + ": " + d.Name + " → " + d.Result
}

// locksADirector is how many keys of gates a director has: two for each of up to 16 actors.
const locksADirector = 32

// NewDirector makes the actors of a schema that has gates.
func NewDirector(ctx context.Context, url, schema string, names ...string) (*Director, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("explore: the director's connection: %w", err)
	}
	d := &Director{conn: conn}
	first := int(conn.PgConn().PID()) * locksADirector // so that no two directors share a key
	for i, name := range names {
		a := &Actor{
			Index: i, Name: name, schema: pg.QuoteSchema(schema), number: first + 2*i, turn: 1, opened: noLock,
			arrivals: make(chan arrival, 1), open: make(chan struct{}),
		}
		d.actors = append(d.actors, a)
		_, err := conn.Exec(ctx, a.sql(`CREATE UNLOGGED SEQUENCE {{gate}}; CREATE UNLOGGED SEQUENCE {{open}} MINVALUE 0;
			SELECT setval('{{open}}', 0), pg_advisory_lock({{class}}, {{key}}), pg_advisory_lock({{class}}, {{key}} + 1)`))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("explore: closing the gates: %w", err), conn.Close(ctx))
		}
	}
	return d, nil
}

// Close opens every gate and disconnects.
func (d *Director) Close(ctx context.Context) error { return d.conn.Close(ctx) }

// Actors are the director's, in the order of their names.
func (d *Director) Actors() []*Actor { return d.actors }

// Trace is what was done since the last call of Reset.
func (d *Director) Trace() []Done { return d.trace }

// Reset begins a new interleaving. Every actor must have ended.
func (d *Director) Reset() {
	d.trace = nil
	for _, a := range d.actors {
		a.Err = nil
	}
}

// Start lets an actor run a program up to its first gate. The program must return when a statement fails.
func (d *Director) Start(ctx context.Context, a *Actor, program func(context.Context) error) error {
	if a.state != ended {
		return fmt.Errorf("explore: %s has not ended", a.Name)
	}
	a.state, a.Err = running, nil
	go func() {
		err := program(ctx)
		a.arrive(ctx, arrival{ended: true, err: err})
	}()
	return d.settle(ctx, a)
}

// Waiting are the actors at a gate.
func (d *Director) Waiting() []*Actor { return d.in(waiting) }

// Active is how many actors have not ended.
func (d *Director) Active() int { return len(d.actors) - len(d.in(ended)) }

func (d *Director) in(s state) (found []*Actor) {
	for _, a := range d.actors {
		if a.state == s {
			found = append(found, a)
		}
	}
	return found
}

// Step opens the gate that an actor waits at, and returns when it stands again: at the next gate, behind another actor's
// lock, or at its end; and all whom it unblocked as well.
func (d *Director) Step(ctx context.Context, a *Actor) error {
	d.note(a, a.At())
	if err := d.openGate(ctx, a, 1); err != nil {
		return err
	}
	return d.settleAll(ctx, a)
}

// Steps is Step for several steps at once. The gates, of which only the last may be followed by one of the client's, are
// inside functions; what they have to tell is not noted. That these steps were the next is for the caller to know; an actor
// whose number of gates differs is an error when it comes to another gate.
func (d *Director) Steps(ctx context.Context, a *Actor, names []string) error {
	if names[0] != a.At() || !a.at.server {
		return fmt.Errorf("explore: %s is at gate %q, not at %q", a.Name, a.At(), names[0])
	}
	for _, name := range names {
		d.note(a, name)
	}
	if err := d.openGate(ctx, a, len(names)); err != nil {
		return err
	}
	return d.settleAll(ctx, a)
}

// Kill terminates the session of an actor at its gate, and returns when its backend is gone and the actor stands again: at
// its end, or at a gate that it comes to after the failure, with a new session if need be.
func (d *Director) Kill(ctx context.Context, a *Actor) error {
	d.note(a, "killed before "+a.At())
	if err := d.terminate(ctx, a); err != nil {
		return err
	}
	a.state = running
	if !a.at.server { // the client finds out at its next statement
		if err := d.openGate(ctx, a, 1); err != nil {
			return err
		}
	}
	return d.settleAll(ctx, a)
}

// KillDuring opens an actor's gate and terminates its session at once: how far it comes is not the director's choice.
func (d *Director) KillDuring(ctx context.Context, a *Actor) error {
	d.note(a, "killed during "+a.At())
	if err := d.openGate(ctx, a, 1); err != nil {
		return err
	}
	if err := d.terminate(ctx, a); err != nil {
		return err
	}
	return d.settleAll(ctx, a)
}

// Unblock waits until a blocked actor goes on by itself, where nobody waits at a gate: a deadlock, that PostgreSQL ends.
func (d *Director) Unblock(ctx context.Context) error {
	for len(d.in(blocked)) > 0 && len(d.in(waiting)) == 0 {
		if err := d.settleAll(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

func (d *Director) note(a *Actor, step string) {
	d.trace = append(d.trace, Done{Step: Step{a.Index, step}, Who: a.Name})
	a.last = len(d.trace) - 1
}

// openGate lets an actor go, through this gate and up to the steps-th one after it. The lock that the actor will wait for
// there is taken back in the same statement, if it was released.
func (d *Director) openGate(ctx context.Context, a *Actor, steps int) error {
	a.state = running
	if !a.at.server {
		select {
		case a.open <- struct{}{}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	next := 1 - a.lock
	take := ""
	if a.opened == next {
		take = `pg_advisory_lock({{class}}, {{key}} + $2::int4), `
	}
	_, err := d.conn.Exec(ctx, a.sql(`SELECT `+take+`setval('{{open}}', $1::int8 * 2 + $2::int4), pg_advisory_unlock({{class}}, {{key}} + 1 - $2::int4)`),
		a.turn+steps-1, next)
	if err != nil {
		return fmt.Errorf("explore: opening gate %q: %w", a.at.gate, err)
	}
	a.opened, a.lock = a.lock, next
	a.turn += steps
	return nil
}

// patience is how long an actor may take before the director looks whether it is blocked. It decides nothing.
const patience = 5 * time.Millisecond

// settle returns when an actor stands.
func (d *Director) settle(ctx context.Context, a *Actor) error {
	wait := patience
	if a.state == blocked {
		wait = 0
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("explore: waiting for %s: %w", a.Name, ctx.Err())
		case at := <-a.arrivals:
			if at.server && at.turn < a.turn { // of a session that was killed meanwhile
				continue
			}
			return d.arrived(a, at)
		case <-timer.C:
		}
		stuck, err := d.isBlocked(ctx, a)
		if err != nil {
			return err
		}
		if stuck {
			if a.state != blocked {
				a.state = blocked
				d.say(a, "waits for another")
			}
			return nil
		}
		timer.Reset(patience / 4)
	}
}

// settleAll returns when an actor stands, and those that were blocked stand as well.
func (d *Director) settleAll(ctx context.Context, a *Actor) error {
	if a != nil {
		if err := d.settle(ctx, a); err != nil {
			return err
		}
	}
	for _, other := range d.in(blocked) {
		if other == a {
			continue
		}
		if err := d.settle(ctx, other); err != nil {
			return err
		}
	}
	return nil
}

func (d *Director) arrived(a *Actor, at arrival) error {
	if at.server && at.turn != a.turn {
		return fmt.Errorf("explore: gate %q is the %dth that %s came to, not the %dth", at.gate, at.turn, a.Name, a.turn)
	}
	a.at, a.state = at, waiting
	for _, said := range a.takeSaid() {
		d.say(a, said)
	}
	if at.detail != "" {
		d.say(a, at.detail)
	}
	if at.ended {
		a.state, a.Err = ended, at.err
		if at.err != nil {
			d.say(a, at.err.Error())
		}
	}
	return nil
}

// say adds to the result of an actor's last step.
func (d *Director) say(a *Actor, text string) {
	if a.last >= len(d.trace) || len(d.trace) == 0 || d.trace[a.last].Actor != a.Index {
		return // it has taken no step yet
	}
	done := &d.trace[a.last]
	if done.Result != "" {
		done.Result += ", "
	}
	done.Result += strings.TrimSpace(text)
}

// isBlocked says whether an actor's session waits for another actor, or for a prepared transaction (which shows as 0).
func (d *Director) isBlocked(ctx context.Context, a *Actor) (stuck bool, err error) {
	others := []int32{0}
	for _, other := range d.actors {
		others = append(others, int32(other.pid.Load()))
	}
	err = d.conn.QueryRow(ctx, `SELECT pg_blocking_pids($1::int4) && $2::int4[]`, int32(a.pid.Load()), others).Scan(&stuck)
	if err != nil {
		return false, fmt.Errorf("explore: looking for who blocks %s: %w", a.Name, err)
	}
	return stuck, nil
}

// terminate ends an actor's backend and waits until it has released everything.
func (d *Director) terminate(ctx context.Context, a *Actor) error {
	a.connecting.Lock() // no new session before the old one's gates are counted
	defer a.connecting.Unlock()
	pid := int32(a.pid.Load())
	_, err := d.conn.Exec(ctx, `SELECT pg_terminate_backend($1::int4)`, pid)
	for there := true; err == nil && there; {
		err = d.conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1::int4)`, pid).Scan(&there)
	}
	if err == nil { // it may have come to a gate that nobody heard of
		var turn int
		err = d.conn.QueryRow(ctx, a.sql(`SELECT coalesce(pg_sequence_last_value('{{gate}}'), 0)`)).Scan(&turn)
		a.turn = turn + 1
	}
	if err == nil && a.opened != noLock {
		_, err = d.conn.Exec(ctx, a.sql(`SELECT pg_advisory_lock({{class}}, {{key}} + $1::int4)`), a.opened)
	}
	if err == nil {
		_, err = d.conn.Exec(ctx, a.sql(`SELECT setval('{{open}}', $1::int8 * 2)`), a.turn-1)
	}
	a.opened, a.lock = noLock, 0
	if err != nil {
		return fmt.Errorf("explore: killing %s: %w", a.Name, err)
	}
	return nil
}

// Attach makes a pool's only connection an actor's session.
func (a *Actor) Attach(config *pgxpool.Config) {
	config.MinConns, config.MaxConns = 0, 1
	config.ConnConfig.RuntimeParams[actorSetting] = fmt.Sprint(a.number)
	config.ConnConfig.OnNotice = a.notice
	config.BeforeConnect = func(context.Context, *pgx.ConnConfig) error {
		a.connecting.Lock()
		defer a.connecting.Unlock()
		return nil
	}
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		a.pid.Store(conn.PgConn().PID())
		return nil
	}
}
