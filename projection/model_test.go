package projection_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/projection"
)

// Guarantees P1, P2, P4 and P5: the read model is always the fold of the log, whatever happens to the workers between apply and commit: random appends,
// backends that are killed, connections cut before and after a commit, panics, poison events that are mended later, lost
// leases, workers that come and go. HINDSIGHT_TEST_SEED repeats a run.
func TestTheReadModelIsTheFoldWhateverHappens(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	if given, err := strconv.ParseUint(os.Getenv("HINDSIGHT_TEST_SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("HINDSIGHT_TEST_SEED=%d", seed)
	world := newChaos(t, seed)
	var last eventstore.Receipt
	for step := 0; step < 120 || step < 3000 && world.missing() != ""; step++ {
		last = world.step(t)
	}
	world.calm.Store(true)
	waitFor(t, world.watch, "tally", last.Position())
	require.Eventually(t, func() bool {
		// Again and again: an attempt that began before it was calm may note its failure now.
		if err := world.watch.Retry(t.Context(), "tally", ""); err != nil && !errors.Is(err, projection.ErrNotParked) {
			return false
		}
		parked, err := world.watch.Parked(t.Context(), "tally", 1)
		return err == nil && len(parked) == 0
	}, 30*time.Second, 20*time.Millisecond)
	requireFold(t, world.log, "tally")
	require.Empty(t, world.missing(), "it never happened")
	t.Logf("%v", world.counts)
}

// chaos is a log with two runners to which things happen.
type chaos struct {
	log     *eventstoretest.Log
	watch   *projection.Runner // only asks
	calm    atomic.Bool
	mu      sync.Mutex
	random  *rand.Rand
	counts  map[string]int
	cutter  *cutter
	runners []func() // stop
	cut     *eventstore.Store
}

func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{log: newLog(t), random: rand.New(rand.NewPCG(seed, 1)), counts: map[string]int{}, cutter: &cutter{}}
	config := c.log.Pool.Config().Copy()
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &cuttable{Conn: conn, cutter: c.cutter}, nil
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	c.cut, err = eventstore.New(pool, eventstore.Config{Schema: c.log.Schema(), Codec: noteCodec()})
	require.NoError(t, err)
	c.watch = newRunner(t, c.log, quick(c.projection()))
	require.NoError(t, c.watch.Migrate(t.Context()))
	c.runners = []func(){c.start(t), c.start(t)}
	return c
}

func (c *chaos) happens(kind string, chance float64) bool {
	if c.calm.Load() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.random.Float64() >= chance {
		return false
	}
	c.counts[kind]++
	return true
}

// missing is something that has not happened yet.
func (c *chaos) missing() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, kind := range []string{"a cut before the commit", "a cut after the commit", "a killed backend", "a panic", "poison", "a lost lease"} {
		if c.counts[kind] == 0 {
			return kind
		}
	}
	return ""
}

// projection is a tally that does not always go well.
func (c *chaos) projection() *tally {
	return &tally{
		spec: projection.Spec{Shards: 3, MaxParkedKeys: 1000},
		fails: func(e eventstore.Recorded) error {
			if strings.HasPrefix(e.Data.(note).Text, "poison") && !c.calm.Load() {
				return errPoison
			}
			return nil
		},
		after: func(ctx context.Context, tx pgx.Tx, _ *projection.Batch) error {
			switch {
			case c.happens("a killed backend", 0.05):
				_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
				return err
			case c.happens("a passing error", 0.05):
				return projection.Transient(errors.New("later"))
			case c.happens("a panic", 0.03):
				panic("chaos")
			case c.happens("a cut before the commit", 0.05):
				c.cutter.arm(tx.Conn(), false)
			case c.happens("a cut after the commit", 0.08):
				c.cutter.arm(tx.Conn(), true)
			}
			return nil
		},
	}
}

func (c *chaos) start(t *testing.T) func() {
	runner, err := projection.New(c.cut, quick(c.projection()))
	require.NoError(t, err)
	return running(t, runner)
}

// step appends, and sometimes does something to a worker.
func (c *chaos) step(t *testing.T) eventstore.Receipt {
	text := "x"
	if c.happens("poison", 0.05) {
		text = "poison"
	}
	c.mu.Lock()
	stream, pause := c.random.IntN(12), time.Duration(c.random.IntN(20))*time.Millisecond
	c.mu.Unlock()
	receipt := appendTo(t, c.log, fmt.Sprintf("a-%d", stream), text, "y")
	time.Sleep(pause)
	switch {
	case c.happens("a lost lease", 0.06):
		_, err := c.log.Pool.Exec(t.Context(), `UPDATE `+c.log.Schema()+`.projection_leases SET worker = NULL, leased_until = '-infinity', epoch = epoch + 1`)
		require.NoError(t, err)
	case c.happens("a worker that leaves", 0.03):
		c.runners[0]()
		c.runners = append(c.runners[1:], c.start(t))
	}
	return receipt
}

// cutter cuts a connection at its next COMMIT.
type cutter struct {
	armed sync.Map
	lost  atomic.Int64 // answers
}

func (c *cutter) arm(conn *pgx.Conn, after bool) { c.armed.Store(underlying(conn.PgConn()), after) }

func underlying(conn *pgconn.PgConn) net.Conn { return conn.Conn() }

// cuttable is a connection that a cutter can cut.
type cuttable struct {
	net.Conn
	cutter  *cutter
	waiting atomic.Bool // for the answer to a commit that is not to arrive
}

func (c *cuttable) Write(data []byte) (int, error) {
	if strings.Contains(string(data), "commit\x00") {
		if after, ok := c.cutter.armed.LoadAndDelete(net.Conn(c)); ok {
			if !after.(bool) {
				_ = c.Close()
				return 0, errors.New("cut before the commit")
			}
			c.waiting.Store(true)
		}
	}
	return c.Conn.Write(data)
}

func (c *cuttable) Read(data []byte) (int, error) {
	n, err := c.Conn.Read(data)
	if n > 0 && c.waiting.Load() { // the commit is done, and nobody hears of it
		c.cutter.lost.Add(1)
		_ = c.Close()
		return 0, errors.New("cut after the commit")
	}
	return n, err
}

// Guarantee P1: after a commit whose answer was lost, the compare-and-set of the checkpoint finds the batch done. The lease is
// long: a worker that lost it would begin again from the checkpoint, and the compare-and-set would not be what helps.
func TestALostAnswerToACommitAppliesNothingTwice(t *testing.T) {
	t.Parallel()
	world := newChaos(t, 1)
	world.calm.Store(true)
	for _, stop := range world.runners {
		stop()
	}
	var seen sync.Map
	p := &tally{spec: projection.Spec{Shards: 3}, after: func(_ context.Context, tx pgx.Tx, batch *projection.Batch) error {
		if _, again := seen.LoadOrStore(batch.Events[0].Position, true); !again {
			world.cutter.arm(tx.Conn(), true)
		}
		return nil
	}}
	config := quick(p)
	config.Lease = 20 * time.Second
	runner, err := projection.New(world.cut, config)
	require.NoError(t, err)
	running(t, runner)
	const answers = 5
	for range answers {
		last := appendTo(t, world.log, "a-1", "lost")
		waitFor(t, world.watch, "tally", last.Position())
	}
	require.EqualValues(t, answers, world.cutter.lost.Load())
	requireFold(t, world.log, "tally")
}
