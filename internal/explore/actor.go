package explore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sight-platform/hindsight/internal/pg"
)

// Actor is a session whose steps a [Director] chooses.
type Actor struct {
	Index int
	Name  string
	Err   error // what its program ended with

	schema     pg.Schema
	number     int
	pid        atomic.Uint32
	connecting sync.Mutex // held by the director while it kills the session before
	arrivals   chan arrival
	open       chan struct{} // to the client's gates

	state  state
	at     arrival
	turn   int // how many gates inside functions it must have come to
	lock   int // which of its two locks it waits for at such a gate: 0 or 1
	opened int // the lock that the director has released and not taken back, or noLock
	last   int // its last step's index in the trace

	mu   sync.Mutex
	said []string
}

// noLock: the director holds both.
const noLock = -1

type state int

const (
	ended   state = iota
	running       // the director waits for it
	waiting       // at a gate
	blocked       // by another actor
)

// arrival is where an actor stands.
type arrival struct {
	gate   string
	detail string
	server bool // inside a function
	turn   int  // how many such gates it has come to
	ended  bool
	err    error
}

// At is the gate the actor waits at, "" if it waits at none.
func (a *Actor) At() string {
	if a.state != waiting {
		return ""
	}
	return a.at.gate
}

// Ended says whether its program has.
func (a *Actor) Ended() bool { return a.state == ended }

// Detail is what the steps up to that gate have led to, as its Place tells.
func (a *Actor) Detail() string { return a.at.detail }

// sql fills an actor's sequences and the key of its locks into a statement.
func (a *Actor) sql(statement string) string {
	return a.schema.SQL(strings.NewReplacer(
		"{{gate}}", fmt.Sprint("{{schema}}.gate_", a.number), "{{open}}", fmt.Sprint("{{schema}}.open_", a.number),
		"{{class}}", fmt.Sprint(gateClass), "{{key}}", fmt.Sprint(a.number),
	).Replace(statement))
}

// Say adds to what the trace tells about the step. For the actor's program.
func (a *Actor) Say(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.said = append(a.said, text)
}

func (a *Actor) takeSaid() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	said := a.said
	a.said = nil
	return said
}

// Pause is a gate between two statements of the actor's program. Its error is that of ctx.
func (a *Actor) Pause(ctx context.Context, gate string) error {
	a.arrive(ctx, arrival{gate: gate})
	select {
	case <-a.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// notice takes the announcement of a gate inside a function.
func (a *Actor) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
	if n.Code == gateCode {
		turn, _ := strconv.Atoi(n.Hint) // 0 is noticed, as no gate is at turn 0
		a.arrivals <- arrival{gate: n.Message, detail: n.Detail, server: true, turn: turn}
	}
}

func (a *Actor) arrive(ctx context.Context, at arrival) {
	select {
	case a.arrivals <- at:
	case <-ctx.Done():
	}
}
