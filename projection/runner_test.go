package projection_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/projection"
)

// Guarantees P1, P2 and P4.
func TestAProjectionIsTheFoldOfTheLog(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	for i := range 300 {
		appendTo(t, log, fmt.Sprintf("a-%d", i%7), fmt.Sprint(i), "again")
	}
	runner := newRunner(t, log, quick(&tally{}, &tally{spec: projection.Spec{Name: "sharded", Shards: 4}},
		&tally{spec: projection.Spec{Name: "few", Categories: []string{"b"}, Types: []string{"note"}}}))
	stop := running(t, runner)
	var last eventstore.Receipt
	for i := range 200 {
		last = appendTo(t, log, fmt.Sprintf("a-%d", i%7), "live")
	}
	for _, name := range []string{"tally", "sharded", "few"} {
		waitFor(t, runner, name, last.Position())
	}
	requireFold(t, log, "tally")
	requireFold(t, log, "sharded")
	require.Empty(t, tallied(t, log.Pool, log.Schema(), "few"))

	b := appendTo(t, log, "b-1", "for the few")
	waitFor(t, runner, "few", b.Position())
	require.Len(t, tallied(t, log.Pool, log.Schema(), "few"), 1)

	// Another process goes on where this one left off.
	stop()
	last = appendTo(t, log, "a-1", "later")
	other := newRunner(t, log, quick(&tally{}))
	running(t, other)
	waitFor(t, other, "tally", last.Position())
	requireFold(t, log, "tally")
}

func TestPauseResumeReset(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	runner := newRunner(t, log, quick(&tally{}))
	running(t, runner)
	require.Eventually(t, func() bool {
		_, err := runner.Status(ctx)
		return err == nil
	}, 10*time.Second, 10*time.Millisecond, "Run makes the tables")
	first := appendTo(t, log, "a-1", "1", "2")
	waitFor(t, runner, "tally", first.Position())

	require.NoError(t, runner.Pause(ctx, "tally", "a look at the data"))
	second := appendTo(t, log, "a-1", "3")
	err := runner.WaitFor(ctx, "tally", second.Position())
	require.ErrorIs(t, err, projection.ErrStopped)
	var stopped *projection.StoppedError
	require.ErrorAs(t, err, &stopped)
	require.Equal(t, "a look at the data", stopped.Reason)
	require.Len(t, tallied(t, log.Pool, log.Schema(), "tally"), 2)
	status, err := runner.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, projection.Paused, status[0].State)
	require.EqualValues(t, 1, status[0].Lag)
	require.Positive(t, status[0].Behind)

	require.NoError(t, runner.Resume(ctx, "tally"))
	waitFor(t, runner, "tally", second.Position())
	requireFold(t, log, "tally")

	require.NoError(t, runner.Reset(ctx, "tally"))
	waitFor(t, runner, "tally", second.Position())
	requireFold(t, log, "tally")
	require.ErrorIs(t, runner.Pause(ctx, "nobody", "x"), projection.ErrUnknown)
	require.ErrorIs(t, runner.WaitFor(ctx, "nobody", 1), projection.ErrUnknown)
}

func TestSpecsAndConfigsThatAreRefused(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	table := projection.Table{Name: "t", SQL: "CREATE TABLE {{table}} (a int)"}
	for name, config := range map[string]projection.Config{
		"none":                       {},
		"no name":                    quick(specOnly{}),
		"a name that needs quotes":   quick(specOnly{Name: "Übersicht"}),
		"a negative version":         quick(specOnly{Name: "a", Version: -1}),
		"too many shards":            quick(specOnly{Name: "a", Shards: 65}),
		"an empty type":              quick(specOnly{Name: "a", Types: []string{""}}),
		"a table without {{table}}":  quick(specOnly{Name: "a", Tables: []projection.Table{{Name: "t", SQL: "CREATE TABLE t (a int)"}}}),
		"a table twice":              quick(specOnly{Name: "a", Tables: []projection.Table{table, table}}),
		"the same projection twice":  quick(specOnly{Name: "a"}, specOnly{Name: "a"}),
		"a table of two projections": quick(specOnly{Name: "a", Tables: []projection.Table{table}}, specOnly{Name: "b", Tables: []projection.Table{table}}),
		"a lease too short":          {Projections: []projection.Projection{specOnly{Name: "a"}}, Lease: time.Millisecond},
	} {
		_, err := projection.New(log.Store, config)
		require.ErrorIs(t, err, eventstore.ErrInvalid, name)
	}
	noPool, err := eventstore.New(nil, eventstore.Config{})
	require.NoError(t, err)
	_, err = projection.New(noPool, quick(specOnly{Name: "a"}))
	require.ErrorIs(t, err, eventstore.ErrNoPool)
}

// specOnly applies nothing.
type specOnly projection.Spec

func (s specOnly) Spec() projection.Spec                                  { return projection.Spec(s) }
func (s specOnly) Apply(context.Context, pgx.Tx, *projection.Batch) error { return nil }

func TestShardsChangeOnlyWhereAllStandTogether(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	for i := range 20 {
		appendTo(t, log, fmt.Sprintf("a-%d", i), "x")
	}
	two := newRunner(t, log, quick(&tally{spec: projection.Spec{Shards: 2}}))
	stop := running(t, two)
	last := appendTo(t, log, "a-1", "y")
	waitFor(t, two, "tally", last.Position())
	stop()
	three := newRunner(t, log, quick(&tally{spec: projection.Spec{Shards: 3}}))
	_, err := log.Pool.Exec(ctx, `UPDATE `+log.Schema()+`.checkpoints SET position = position - 1 WHERE shard = 1`)
	require.NoError(t, err)
	require.ErrorIs(t, three.Migrate(ctx), projection.ErrShards)
	_, err = log.Pool.Exec(ctx, `UPDATE `+log.Schema()+`.checkpoints SET position = position + 1 WHERE shard = 1`)
	require.NoError(t, err)
	stop = running(t, three)
	for i := range 20 {
		last = appendTo(t, log, fmt.Sprintf("a-%d", i), "z")
	}
	waitFor(t, three, "tally", last.Position())
	requireFold(t, log, "tally")
	stop()
	one := newRunner(t, log, quick(&tally{}))
	running(t, one)
	last = appendTo(t, log, "a-1", "alone")
	waitFor(t, one, "tally", last.Position())
	requireFold(t, log, "tally")
}

// Guarantee P3: leases are spread evenly over runners, move when one comes, and at once when one leaves.
func TestLeasesAreSpreadAndHandedOver(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	config := func(name string) projection.Config {
		c := quick(&tally{spec: projection.Spec{Shards: 4}})
		c.Worker = name
		return c
	}
	holders := func(runner *projection.Runner) map[string]int {
		found := map[string]int{}
		status, err := runner.Status(ctx)
		if err == nil {
			for _, s := range status[0].Shards {
				found[s.Worker]++
			}
		}
		return found
	}
	first := newRunner(t, log, config("first"))
	require.NoError(t, first.Migrate(ctx))
	running(t, first)
	spread := func(want map[string]int) {
		t.Helper()
		require.Eventually(t, func() bool { return fmt.Sprint(holders(first)) == fmt.Sprint(want) }, 10*time.Second, 20*time.Millisecond, "%v", want)
	}
	spread(map[string]int{"first": 4})
	stopSecond := running(t, newRunner(t, log, config("second")))
	spread(map[string]int{"first": 2, "second": 2})
	stopThird := running(t, newRunner(t, log, config("third")))
	require.Eventually(t, func() bool {
		found := holders(first)
		return len(found) == 3 && found["first"]+found["second"]+found["third"] == 4 && found["first"] >= 1 && found["second"] >= 1 && found["third"] >= 1
	}, 10*time.Second, 20*time.Millisecond)
	stopThird()
	left := time.Now()
	stopSecond()
	spread(map[string]int{"first": 4})
	t.Logf("handed over %v after the other left; a lease is 1 s", time.Since(left))
	last := appendTo(t, log, "a-1", "x")
	waitFor(t, first, "tally", last.Position())
	requireFold(t, log, "tally")
}

// preparing stops in Prepare, once, until it may go on.
type preparing struct {
	tally
	inside, goOn chan struct{}
}

func (p *preparing) Prepare(context.Context, *projection.Batch) error {
	select {
	case p.inside <- struct{}{}:
		<-p.goOn
	default:
	}
	return nil
}

// Guarantee P3: a worker whose shard has passed to another cannot write, however sure of it it is.
func TestALostLeaseCannotWrite(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	p := &preparing{inside: make(chan struct{}), goOn: make(chan struct{})}
	config, tries := quick(p), make(chan error, 100)
	config.Hooks.Batch = func(info projection.BatchInfo) { tries <- info.Err }
	runner := newRunner(t, log, config)
	running(t, runner)
	last := appendTo(t, log, "a-1", "x")
	<-p.inside // somebody else takes the shard over, as after the end of the lease, and has not written yet
	_, err := log.Pool.Exec(ctx, strings.ReplaceAll(`
WITH lease AS (UPDATE {{schema}}.projection_leases SET worker = 'other', epoch = epoch + 1, leased_until = now() + interval '1500 ms')
UPDATE {{schema}}.checkpoints SET epoch = epoch + 1`, "{{schema}}", log.Schema()))
	require.NoError(t, err)
	close(p.goOn)
	require.ErrorContains(t, <-tries, "taken over")
	require.Empty(t, tallied(t, log.Pool, log.Schema(), "tally"))
	waitFor(t, runner, "tally", last.Position()) // when the other's lease has ended
	requireFold(t, log, "tally")
}

// Guarantee P3: a transaction of a worker that is paused is ended by the server within a lease: who takes over need not wait for it.
func TestAPausedTransactionIsEnded(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	inApply, goOn := make(chan struct{}), make(chan struct{})
	slow := &tally{after: func(ctx context.Context, _ pgx.Tx, _ *projection.Batch) error {
		select {
		case inApply <- struct{}{}:
			<-goOn // as if frozen
		default:
		}
		return nil
	}}
	first := newRunner(t, log, quick(slow))
	stop := running(t, first)
	thaw := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(thaw)
	last := appendTo(t, log, "a-1", "x")
	<-inApply // nothing is committed; somebody else takes the shard, as after the end of the lease
	_, err := log.Pool.Exec(ctx, `UPDATE `+log.Schema()+`.projection_leases SET worker = 'other', epoch = epoch + 1, leased_until = now() + interval '2 s'`)
	require.NoError(t, err)
	taken := make(chan error, 1)
	go func() { // as the other does; it waits for the row
		_, err := log.Pool.Exec(ctx, `UPDATE `+log.Schema()+`.checkpoints SET epoch = epoch + 1`)
		taken <- err
	}()
	select { // the lease is a second
	case err := <-taken:
		require.NoError(t, err)
	case <-time.After(5 * time.Second):
		t.Fatal("whoever takes over waits for the transaction of a worker that is paused")
	}
	thaw()
	require.Empty(t, tallied(t, log.Pool, log.Schema(), "tally"))
	waitFor(t, first, "tally", last.Position()) // it takes the shard again when the other's lease has ended
	requireFold(t, log, "tally")
	stop()
}

func TestTransientErrorsParkNothing(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	tries := 0
	p := &tally{after: func(ctx context.Context, tx pgx.Tx, _ *projection.Batch) error {
		switch tries++; tries {
		case 1:
			return projection.Transient(errors.New("the service does not answer"))
		case 2:
			_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
			return err
		case 3:
			_, err := tx.Exec(ctx, `DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$`)
			return err
		}
		return nil
	}}
	runner := newRunner(t, log, quick(p))
	running(t, runner)
	last := appendTo(t, log, "a-1", "x", "y")
	waitFor(t, runner, "tally", last.Position())
	require.GreaterOrEqual(t, tries, 4)
	requireFold(t, log, "tally")
	parked, err := runner.Parked(t.Context(), "tally", 10)
	require.NoError(t, err)
	require.Empty(t, parked)
}
