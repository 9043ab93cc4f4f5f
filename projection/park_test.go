package projection_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/projection"
)

// Guarantees P2 and P5: a poison event in one of a thousand streams delays only its stream; what comes after it there waits, and goes on in order.
func TestAPoisonEventDelaysItsStreamAlone(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, 2*time.Minute)
	poison := &failing{text: "poison"}
	runner := newRunner(t, log, quick(&tally{fails: poison.check}))
	appends := make([]eventstore.StreamAppend, 1000)
	for i := range appends {
		appends[i] = eventstore.StreamAppend{StreamID: eventstore.StreamID(fmt.Sprintf("a-%d", i)), Events: []any{note{"1"}}}
	}
	_, err := log.AppendMany(ctx, appends...)
	require.NoError(t, err)
	bad := appendTo(t, log, "a-500", "2", "poison", "4")
	running(t, runner)
	last := appendTo(t, log, "a-501", "3")
	waitFor(t, runner, "tally", last.Position())
	behind := appendTo(t, log, "a-500", "6")
	waitFor(t, runner, "tally", behind.Position())

	held := []eventstore.Position{bad.Positions[1], bad.Positions[2], behind.Position()}
	requireFold(t, log, "tally", held...)
	parked, err := runner.Parked(ctx, "tally", 10)
	require.NoError(t, err)
	require.Len(t, parked, 3)
	require.Equal(t, "a-500", parked[0].Key)
	require.Equal(t, bad.Positions[1], parked[0].Position)
	require.Positive(t, parked[0].Attempts)
	require.Equal(t, "poison", parked[0].Error)
	require.Zero(t, parked[1].Attempts, "it waits")
	status, err := runner.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, []int{1, 3}, []int{status[0].ParkedKeys, status[0].ParkedEvents})

	poison.off.Store(true) // the bug is mended; the next retry finds out
	require.Eventually(t, func() bool {
		parked, err := runner.Parked(ctx, "tally", 10)
		return err == nil && len(parked) == 0
	}, 20*time.Second, 20*time.Millisecond)
	requireFold(t, log, "tally")
	last = appendTo(t, log, "a-500", "7")
	waitFor(t, runner, "tally", last.Position())
	requireFold(t, log, "tally")
}

// Guarantee P5: nothing waits for ever behind a key that has nothing parked any more, even if the worker has not heard of it:
// here the answer to the commit of its last parked event is lost.
func TestNothingWaitsBehindAParkedEventThatIsDone(t *testing.T) {
	t.Parallel()
	world := newChaos(t, 1)
	world.calm.Store(true)
	for _, stop := range world.runners {
		stop()
	}
	poison := &failing{text: "poison"}
	p := &tally{fails: poison.check, after: func(_ context.Context, tx pgx.Tx, batch *projection.Batch) error {
		if batch.Events[0].Data.(note).Text == "poison" {
			world.cutter.arm(tx.Conn(), true)
		}
		return nil
	}}
	p.spec.Shards = 3
	config := quick(p)
	config.Lease = 20 * time.Second // whoever lost it would read from the database what is parked
	runner, err := projection.New(world.cut, config)
	require.NoError(t, err)
	running(t, runner)
	last := appendTo(t, world.log, "a-1", "poison")
	waitFor(t, world.watch, "tally", last.Position())
	nothingParked := func() bool {
		parked, err := world.watch.Parked(t.Context(), "tally", 1)
		return err == nil && len(parked) == 0
	}
	require.False(t, nothingParked())
	poison.off.Store(true)
	require.Eventually(t, nothingParked, 20*time.Second, 10*time.Millisecond)
	// The commit is seen before its answer is lost.
	require.Eventually(t, func() bool { return world.cutter.lost.Load() == 1 }, 20*time.Second, 10*time.Millisecond)
	last = appendTo(t, world.log, "a-1", "after", "and after")
	waitFor(t, world.watch, "tally", last.Position())
	require.Eventually(t, nothingParked, 20*time.Second, 10*time.Millisecond)
	requireFold(t, world.log, "tally")
}

// Guarantee P5: after its retries an event stays parked until an operator says what to do.
func TestParkedEventsAreSkippedOrRetriedByHand(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, 2*time.Minute)
	poison := &failing{text: "poison"}
	config := quick(&tally{fails: poison.check})
	config.Retries, config.RetryAfter = 1, 10*time.Millisecond
	runner := newRunner(t, log, config)
	stop := running(t, runner)
	a := appendTo(t, log, "a-1", "poison", "after")
	b := appendTo(t, log, "b-1", "poison", "after")
	waitFor(t, runner, "tally", b.Position())
	parked := func() []projection.Parked {
		list, err := runner.Parked(ctx, "tally", 10)
		require.NoError(t, err)
		return list
	}
	require.Eventually(t, func() bool {
		list := parked()
		return len(list) == 4 && list[0].Attempts == 2 && list[0].RetryAt == nil && list[2].RetryAt == nil
	}, 20*time.Second, 20*time.Millisecond)

	require.ErrorIs(t, runner.Skip(ctx, "tally", a.Positions[0], " "), eventstore.ErrInvalid)
	require.ErrorIs(t, runner.Skip(ctx, "tally", a.Positions[1], "not the first"), projection.ErrNotParked)
	require.ErrorIs(t, runner.Retry(ctx, "tally", "c-1"), projection.ErrNotParked)
	require.NoError(t, runner.Skip(ctx, "tally", a.Positions[0], "agreed with the project"))
	require.Eventually(t, func() bool { return len(parked()) == 2 }, 20*time.Second, 20*time.Millisecond)
	requireFoldWithout := func(p ...eventstore.Position) { requireFold(t, log, "tally", p...) }
	requireFoldWithout(a.Positions[0], b.Positions[0], b.Positions[1])
	var reason string
	require.NoError(t, log.Pool.QueryRow(ctx, `SELECT reason FROM `+log.Schema()+`.projection_skipped WHERE position = $1`, int64(a.Positions[0])).Scan(&reason))
	require.Equal(t, "agreed with the project", reason)

	stop() // what is parked survives, and belongs to whoever comes next
	poison.off.Store(true)
	running(t, newRunner(t, log, config))
	require.Len(t, parked(), 2)
	require.NoError(t, runner.Retry(ctx, "tally", "b-1"))
	require.Eventually(t, func() bool { return len(parked()) == 0 }, 20*time.Second, 20*time.Millisecond)
	requireFoldWithout(a.Positions[0])
}

func TestTooManyParkedKeysStopTheProjection(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	poison := &failing{text: "poison"}
	runner := newRunner(t, log, quick(&tally{fails: poison.check, spec: projection.Spec{MaxParkedKeys: 3}}, &tally{spec: projection.Spec{Name: "other"}}))
	running(t, runner)
	var last eventstore.Receipt
	for i := range 20 {
		last = appendTo(t, log, fmt.Sprintf("a-%d", i), "poison", "after")
	}
	err := runner.WaitFor(ctx, "tally", last.Position())
	var stopped *projection.StoppedError
	require.ErrorAs(t, err, &stopped)
	require.Equal(t, projection.Stopped, stopped.State)
	require.Contains(t, stopped.Reason, "4 keys are parked, 3 are allowed")
	waitFor(t, runner, "other", last.Position())
	requireFold(t, log, "other")

	poison.off.Store(true)
	require.NoError(t, runner.Resume(ctx, "tally"))
	waitFor(t, runner, "tally", last.Position())
	require.Eventually(t, func() bool {
		list, err := runner.Parked(ctx, "tally", 10)
		return err == nil && len(list) == 0
	}, 20*time.Second, 20*time.Millisecond)
	requireFold(t, log, "tally")
}

// An event that the codec cannot read, and code that panics, are poison like any other.
func TestEventsThatCannotBeDecodedAndPanicsArePoison(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	p := &tally{fails: func(e eventstore.Recorded) error {
		if e.Data.(note).Text == "panic" {
			panic("at the disco")
		}
		return nil
	}}
	runner := newRunner(t, log, quick(p))
	raw, err := log.Append(ctx, "a-1", eventstore.Any, eventstore.Raw{Type: "unheard_of", JSON: []byte(`{}`)})
	require.NoError(t, err)
	panics := appendTo(t, log, "b-1", "panic")
	last := appendTo(t, log, "c-1", "fine")
	running(t, runner)
	waitFor(t, runner, "tally", last.Position())
	list, err := runner.Parked(ctx, "tally", 10)
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, []eventstore.Position{raw.Position(), panics.Position()}, []eventstore.Position{list[0].Position, list[1].Position})
	require.Contains(t, list[0].Error, "unheard_of")
	require.Contains(t, list[1].Error, "panic: at the disco")
	require.Contains(t, list[1].Error, "park_test.go", "where it was")
}

func TestUpsertAndCopy(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	for _, n := range []int{3, 3000} { // arrays; a temporary table
		name := fmt.Sprintf("upsert%d", n)
		p := &upserts{name: name}
		runner := newRunner(t, log, quick(p))
		var texts []string
		for i := range n {
			texts = append(texts, fmt.Sprint(i%(n/2+1)))
		}
		var last eventstore.Receipt
		for part := range slices.Chunk(texts, 1000) {
			last = appendTo(t, log, "u-"+name, part...)
		}
		running(t, runner)
		waitFor(t, runner, name, last.Position())
		var rows, total int64
		require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT count(*), sum(last) FROM `+log.Schema()+`.`+name).Scan(&rows, &total))
		require.EqualValues(t, n/2+1, rows)
		var want int64
		for text, version := range p.want(n) {
			_ = text
			want += version
		}
		require.Equal(t, want, total)
	}
}

type upserts struct{ name string }

func (p *upserts) want(n int) map[string]int64 {
	last := map[string]int64{}
	for i := range n {
		last[fmt.Sprint(i%(n/2+1))] = int64(i + 1)
	}
	return last
}

func (p *upserts) Spec() projection.Spec {
	return projection.Spec{Name: p.name, Categories: []string{"u"}, Tables: []projection.Table{
		{Name: p.name, SQL: `CREATE TABLE {{table}} (text text PRIMARY KEY, last bigint NOT NULL, at timestamptz)`},
	}}
}

func (p *upserts) Apply(ctx context.Context, tx pgx.Tx, batch *projection.Batch) error {
	var rows [][]any
	for _, e := range batch.Events {
		if string(e.StreamID) == "u-"+p.name {
			rows = append(rows, []any{e.Data.(note).Text, int64(e.Version), e.RecordedAt})
		}
	}
	return batch.Upsert(ctx, tx, p.name, []string{"text", "last", "at"}, []string{"text"}, rows)
}
