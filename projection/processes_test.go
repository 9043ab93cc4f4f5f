package projection_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/projection"
)

// workerVariable makes the test binary a worker: the JSON of a workerOrder.
const workerVariable = "HINDSIGHT_TEST_PROJECTION_WORKER"

type workerOrder struct{ URL, Schema string }

func TestMain(m *testing.M) {
	if order := os.Getenv(workerVariable); order != "" {
		if err := workAsChild(order); err != nil {
			fmt.Fprintln(os.Stderr, "worker:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func killedTally() *tally { return &tally{spec: projection.Spec{Shards: 8}} }

func workAsChild(text string) error {
	var order workerOrder
	if err := json.Unmarshal([]byte(text), &order); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	pool, err := pgxpool.New(ctx, order.URL)
	if err != nil {
		return err
	}
	defer pool.Close()
	store, err := eventstore.New(pool, eventstore.Config{Schema: order.Schema, Codec: noteCodec()})
	if err != nil {
		return err
	}
	config := quick(killedTally())
	config.Worker = fmt.Sprintf("child-%d", os.Getpid())
	runner, err := projection.New(store, config)
	if err != nil {
		return err
	}
	fmt.Println(config.Worker)
	return runner.Run(ctx)
}

// child is a worker process.
type child struct {
	cmd    *exec.Cmd
	worker string // its name in leases
}

func startChild(t *testing.T, order workerOrder) *child {
	t.Helper()
	text, err := json.Marshal(order)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), workerVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	worker, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	c := &child{cmd, strings.TrimSpace(worker)}
	t.Cleanup(c.kill)
	return c
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

func (c *child) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	require.NoError(t, c.cmd.Process.Signal(s))
}

type heldShard struct {
	Shard int32
	Epoch int64
}

// holds are the shards on which a worker may work.
func (c *child) holds(t *testing.T, log *eventstoretest.Log) []heldShard {
	t.Helper()
	rows, err := log.Pool.Query(t.Context(), `
SELECT shard, epoch FROM `+log.Schema()+`.projection_leases WHERE worker = $1 AND leased_until > clock_timestamp()`, c.worker)
	require.NoError(t, err)
	held, err := pgx.CollectRows(rows, pgx.RowToStructByPos[heldShard])
	require.NoError(t, err)
	return held
}

// freeze stops the process at a moment when it holds shards, and returns those.
func (c *child) freeze(t *testing.T, log *eventstoretest.Log) (held []heldShard) {
	t.Helper()
	require.Eventually(t, func() bool {
		if len(c.holds(t, log)) == 0 {
			return false
		}
		c.signal(t, syscall.SIGSTOP)
		if held = c.holds(t, log); len(held) == 0 { // it gave them back at the last moment
			c.signal(t, syscall.SIGCONT)
		}
		return len(held) > 0
	}, 30*time.Second, 50*time.Millisecond, "five workers share eight shards")
	return held
}

// requireTakenOver asks that others take the shards that a frozen worker holds.
func requireTakenOver(t *testing.T, log *eventstoretest.Log, held []heldShard) {
	t.Helper()
	for _, h := range held {
		require.Eventually(t, func() (taken bool) {
			require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT epoch > $2 FROM `+log.Schema()+`.projection_leases WHERE shard = $1`, h.Shard, h.Epoch).Scan(&taken))
			return taken
		}, 30*time.Second, 50*time.Millisecond, "shard %d", h.Shard)
	}
}

// Guarantees P1 and P3: four worker processes under load, one killed with SIGKILL every second, one frozen for longer than its lease and thawed:
// others have its shards meanwhile, and nothing is applied twice or lost. HINDSIGHT_TEST_LONG=1 does it for a minute.
func TestKilledAndFrozenWorkersLoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	rounds := 8
	if os.Getenv("HINDSIGHT_TEST_LONG") != "" {
		rounds = 60
	}
	log := newLog(t)
	ctx := testContext(t, 5*time.Minute)
	order := workerOrder{URL: log.Pool.Config().ConnString(), Schema: log.Schema()}
	runner := newRunner(t, log, quick(killedTally()))
	require.NoError(t, runner.Migrate(ctx))
	workers := make([]*child, 4)
	for i := range workers {
		workers[i] = startChild(t, order)
	}
	load, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	loaded := make(chan int, 1)
	go func() { loaded <- appendUntil(load, log) }()

	frozen := startChild(t, order)
	var held []heldShard
	for round := range rounds {
		time.Sleep(time.Second)
		switch round % 4 {
		case 0:
			held = frozen.freeze(t, log)
		case 3: // a lease is one second
			requireTakenOver(t, log, held)
			frozen.signal(t, syscall.SIGCONT)
		}
		i := rand.IntN(len(workers))
		workers[i].kill()
		workers[i] = startChild(t, order)
	}
	stopLoad()
	n := <-loaded
	last := appendTo(t, log, "end-1", "end")
	require.NoError(t, runner.WaitFor(ctx, "tally", last.Position()))
	requireFold(t, log, "tally")
	parked, err := runner.Parked(ctx, "tally", 10)
	require.NoError(t, err)
	require.Empty(t, parked)
	t.Logf("%d workers killed, one frozen and thawed %d times, %d events appended meanwhile", rounds, (rounds+3)/4, n)
	require.Greater(t, n, 10*rounds, "there was a load")
}

// appendUntil appends to fifty streams, some hundred events a second, until ctx ends, and returns how many.
func appendUntil(ctx context.Context, log *eventstoretest.Log) (n int) {
	for ctx.Err() == nil {
		_, err := log.Append(context.WithoutCancel(ctx), eventstore.StreamID(fmt.Sprintf("a-%d", n%50)), eventstore.Any, note{fmt.Sprint(n)}, note{"b"})
		if err != nil {
			return n
		}
		n += 2
		time.Sleep(3 * time.Millisecond)
	}
	return n
}
