package eventstoretest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
)

// Conformance runs the contract of a log against the database that open gives: each clause bound to a pool, bound to a
// transaction, and with its appends falling on both sides of a month's end. Pass [New] for the default database.
func Conformance(t *testing.T, open func(testing.TB, eventstore.Config) *Log) {
	t.Run("bound to a pool", func(t *testing.T) {
		runClauses(t, clauses(), func(t *testing.T) *clause { return newClause(t, open, nil) })
		runClauses(t, clausesOfTheLog(), func(t *testing.T) *clause { return newClause(t, open, nil) })
	})
	t.Run("across a month's end", func(t *testing.T) {
		runClauses(t, clauses(), func(t *testing.T) *clause { return newClause(t, open, clockOverMonthEnd()) })
		runClauses(t, clausesOfTheLog(), func(t *testing.T) *clause { return newClause(t, open, clockOverMonthEnd()) })
	})
	t.Run("bound to a transaction", func(t *testing.T) {
		runClauses(t, clauses(), func(t *testing.T) *clause {
			c := newClause(t, open, nil)
			tx, err := c.log.Pool.Begin(c.ctx)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, tx.Rollback(context.WithoutCancel(c.ctx))) })
			c.store = c.log.WithTx(tx)
			return c
		})
	})
}

// clockOverMonthEnd steps by 400 ms at each look, from two seconds before the end of November 2026: the third or fourth
// append of a clause is the first of December.
func clockOverMonthEnd() func() time.Time {
	return steppingClock(time.Date(2026, 11, 30, 23, 59, 58, 900_000_000, time.UTC), 400*time.Millisecond)
}

func steppingClock(start time.Time, step time.Duration) func() time.Time {
	ticks := make(chan time.Time, 1)
	ticks <- start
	return func() time.Time {
		now := <-ticks
		ticks <- now.Add(step)
		return now
	}
}

// said is the payload of the clauses.
type said struct {
	Project string `json:"project,omitempty"`
	Text    string `json:"text"`
}

func (s said) StreamProject() string { return s.Project }

// asked is a second type, to filter by.
type asked struct {
	Text string `json:"text"`
}

// clause is what a clause works with.
type clause struct {
	*require.Assertions
	t     *testing.T
	ctx   context.Context
	log   *Log
	store *eventstore.Store // the log's, or one in a transaction
	id    eventstore.StreamID
}

func newClause(t *testing.T, open func(testing.TB, eventstore.Config) *Log, clock func() time.Time) *clause {
	codec, err := eventstore.NewCodec(eventstore.Type[said]("said"), eventstore.Type[asked]("asked"))
	require.NoError(t, err)
	log := open(t, eventstore.Config{Codec: codec, Clock: clock, PageSize: 3})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return &clause{Assertions: require.New(t), t: t, ctx: ctx, log: log, store: log.Store, id: eventstore.NewStreamID("discussion")}
}

type namedClause struct {
	sentence string
	holds    func(*clause)
}

func runClauses(t *testing.T, list []namedClause, fresh func(*testing.T) *clause) {
	for _, c := range list {
		t.Run(c.sentence, func(t *testing.T) {
			t.Parallel()
			c.holds(fresh(t))
		})
	}
}

// append must succeed.
func (c *clause) append(id eventstore.StreamID, expected eventstore.Expected, events ...any) eventstore.Receipt {
	c.t.Helper()
	receipt, err := c.store.Append(c.ctx, id, expected, events...)
	c.NoError(err)
	return receipt
}

// appendEach appends n events, one at a time.
func (c *clause) appendEach(id eventstore.StreamID, n int) {
	c.t.Helper()
	for range n {
		c.append(id, eventstore.Any, said{Text: "…"})
	}
}

func versionsOf(events []eventstore.Recorded) []eventstore.Version {
	var out []eventstore.Version
	for _, e := range events {
		out = append(out, e.Version)
	}
	return out
}

func (c *clause) stream(id eventstore.StreamID) []eventstore.Recorded {
	c.t.Helper()
	return Collect(c.t, c.store.Stream(c.ctx, id, 0))
}

func (c *clause) all(after eventstore.Position, filter eventstore.Filter) []eventstore.Recorded {
	c.t.Helper()
	return Collect(c.t, c.store.All(c.ctx, after, filter))
}
