package projection_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/projection"
)

// Guarantee P5: events that wait behind a parked one come through, also when something passing gets between them.
func TestWaitingEventsSurviveAPassingError(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	poison := &failing{text: "poison"}
	var passing atomic.Bool
	p := &tally{fails: func(e eventstore.Recorded) error {
		if e.Data.(note).Text == "behind" && passing.CompareAndSwap(true, false) {
			return projection.Transient(errors.New("later"))
		}
		return poison.check(e)
	}}
	runner := newRunner(t, log, quick(p))
	running(t, runner)
	appendTo(t, log, "a-1", "poison", "behind", "last")
	last := appendTo(t, log, "b-1", "x")
	waitFor(t, runner, "tally", last.Position())
	passing.Store(true)
	poison.off.Store(true)
	require.Eventually(t, func() bool {
		parked, err := runner.Parked(t.Context(), "tally", 1)
		return err == nil && len(parked) == 0
	}, 20*time.Second, 20*time.Millisecond)
	require.False(t, passing.Load())
	requireFold(t, log, "tally")
}

// Guarantee P1: a process that still deals the keys out over the old number of shards takes none of the new ones.
func TestAnOldNumberOfShardsTakesNothing(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	old := newRunner(t, log, quick(&tally{spec: projection.Spec{Shards: 2}}))
	running(t, old)
	last := appendTo(t, log, "a-1", "x")
	waitFor(t, old, "tally", last.Position())
	require.Eventually(t, func() bool { // all stand at one position as soon as the other shard has noted it
		return newRunner(t, log, quick(&tally{spec: projection.Spec{Shards: 4}})).Migrate(ctx) == nil
	}, 20*time.Second, 20*time.Millisecond)
	for i := range 40 {
		appendTo(t, log, fmt.Sprintf("a-%d", i), "nobody is there")
	}
	beaten := func() (until time.Time) {
		require.NoError(t, log.Pool.QueryRow(ctx, `SELECT max(seen_until) FROM `+log.Schema()+`.projection_workers`).Scan(&until))
		return until
	}
	for since := beaten(); beaten().Before(since.Add(time.Second)); time.Sleep(10 * time.Millisecond) { // some beats, over a lease
		require.NoError(t, ctx.Err())
	}
	require.Len(t, tallied(t, log.Pool, log.Schema(), "tally"), 1)
	young := newRunner(t, log, quick(&tally{spec: projection.Spec{Shards: 4}}))
	running(t, young)
	last = appendTo(t, log, "a-1", "y")
	waitFor(t, young, "tally", last.Position())
	requireFold(t, log, "tally")
}

// Workers that run different projections leave none of them without a worker.
func TestWorkersWithDifferentProjections(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	var many []projection.Projection
	for i := range 8 {
		many = append(many, specOnly{Name: fmt.Sprintf("p%d", i)})
	}
	one, all := quick(many[0]), quick(many...)
	one.Worker, all.Worker = "one", "all"
	running(t, newRunner(t, log, one))
	runner := newRunner(t, log, all)
	require.NoError(t, runner.Migrate(ctx))
	running(t, runner)
	require.Eventually(t, func() bool {
		status, err := runner.Status(ctx)
		require.NoError(t, err)
		for i, s := range status {
			want := "all"
			if i == 0 {
				want = "one"
			}
			if s.Shards[0].Worker != want {
				return false
			}
		}
		return true
	}, 10*time.Second, 20*time.Millisecond)
}

// deferred breaks a constraint that is looked at only at the commit.
type deferred struct{}

func (deferred) Spec() projection.Spec {
	return projection.Spec{Name: "deferred", Tables: []projection.Table{{Name: "deferred", SQL: `CREATE TABLE {{table}} (text text UNIQUE DEFERRABLE INITIALLY DEFERRED)`}}}
}

func (deferred) Apply(ctx context.Context, tx pgx.Tx, batch *projection.Batch) error {
	var rows [][]any
	for _, e := range batch.Events {
		rows = append(rows, []any{e.Data.(note).Text})
	}
	return batch.Copy(ctx, tx, "deferred", []string{"text"}, rows)
}

// swallows goes on after a statement that failed.
type swallows struct{}

func (swallows) Spec() projection.Spec { return projection.Spec{Name: "swallows"} }

func (swallows) Apply(ctx context.Context, tx pgx.Tx, batch *projection.Batch) error {
	for _, e := range batch.Events {
		if e.Data.(note).Text == "twice" {
			_, _ = tx.Exec(ctx, `SELECT 1/0`)
		}
	}
	return nil
}

// Guarantee P5: a fault that shows only at the end of the transaction is the event's all the same.
func TestFaultsThatShowAtTheCommitAreParked(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	runner := newRunner(t, log, quick(deferred{}, swallows{}))
	running(t, runner)
	appendTo(t, log, "a-1", "twice")
	second := appendTo(t, log, "b-1", "twice")
	last := appendTo(t, log, "c-1", "once")
	waitFor(t, runner, "deferred", last.Position())
	waitFor(t, runner, "swallows", last.Position())
	parked, err := runner.Parked(t.Context(), "deferred", 10)
	require.NoError(t, err)
	require.Len(t, parked, 1)
	require.Equal(t, second.Position(), parked[0].Position)
	parked, err = runner.Parked(t.Context(), "swallows", 10)
	require.NoError(t, err)
	require.Len(t, parked, 2)
}

// Guarantee P6: an inline projection refuses an append whose snapshot may be older than its hand-over.
func TestInlineRefusesStricterIsolation(t *testing.T) {
	t.Parallel()
	p := &tally{spec: projection.Spec{Inline: true}}
	log := inlineLog(t, p)
	ctx := testContext(t, time.Minute)
	require.NoError(t, newRunner(t, log, quick(p)).Migrate(ctx))
	err := pgx.BeginTxFunc(ctx, log.Pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		_, err := log.WithTx(tx).Append(ctx, "a-1", eventstore.NoStream, note{"x"})
		return err
	})
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	require.ErrorContains(t, err, "repeatable read")
}

// A settled position need not be an event's: an append that was rolled back took it.
func TestWaitForAPositionWithoutAnEvent(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	runner := newRunner(t, log, quick(&tally{}))
	running(t, runner)
	last := appendTo(t, log, "a-1", "x")
	waitFor(t, runner, "tally", last.Position())
	require.ErrorIs(t, pgx.BeginFunc(ctx, log.Pool, func(tx pgx.Tx) error {
		_, err := log.WithTx(tx).Append(ctx, "a-1", eventstore.Any, note{"y"})
		require.NoError(t, err)
		return errPoison
	}), errPoison)
	settled, err := log.Settled(ctx)
	require.NoError(t, err)
	require.Greater(t, settled, last.Position())
	waitFor(t, runner, "tally", settled)
}

// What a version of a projection is does not change behind its tables' back.
func TestOtherTablesNeedAnotherVersion(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	table := func(name string) projection.Table {
		return projection.Table{Name: name, SQL: `CREATE TABLE {{table}} (a int)`}
	}
	require.NoError(t, newRunner(t, log, quick(specOnly{Name: "p", Tables: []projection.Table{table("one")}})).Migrate(ctx))
	two := specOnly{Name: "p", Tables: []projection.Table{table("one"), table("two")}}
	require.ErrorIs(t, newRunner(t, log, quick(two)).Migrate(ctx), eventstore.ErrInvalid)
	two.Version = 2
	require.NoError(t, newRunner(t, log, quick(two)).Migrate(ctx))
	var tables []string
	require.NoError(t, log.Pool.QueryRow(ctx, `SELECT array_agg(tablename::text ORDER BY tablename) FROM pg_tables WHERE schemaname = $1 AND tablename ~ '^(one|two)'`, log.Schema()).Scan(&tables))
	require.Equal(t, []string{"one_v1", "one_v2", "two_v2"}, tables)
}

// Guarantee P6: a projection that is inline no more goes on where the appends left it.
func TestInlineNoMore(t *testing.T) {
	t.Parallel()
	p := &tally{spec: projection.Spec{Inline: true}}
	log := inlineLog(t, p)
	ctx := testContext(t, time.Minute)
	runner := newRunner(t, log, quick(p))
	require.NoError(t, runner.Migrate(ctx))
	stop := running(t, runner)
	untilInline(t, log)
	appendTo(t, log, "a-1", "by the append")
	stop()
	live := newRunner(t, log, quick(&tally{}))
	require.NoError(t, live.Migrate(ctx))
	require.False(t, isInline(t, log))
	last := appendTo(t, log, "a-1", "by the worker")
	running(t, live)
	waitFor(t, live, "tally", last.Position())
	requireFold(t, log, "tally")
}

// Guarantee P5: a key of one's own orders and parks; one that panics, or that PostgreSQL could not hold, harms nobody.
func TestKeysOfOnesOwn(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	poison := &failing{text: "poison"}
	runner := newRunner(t, log, quick(&tally{fails: poison.check, spec: projection.Spec{Key: func(e eventstore.Recorded) string {
		if e.StreamID == "panic-1" {
			panic("no key")
		}
		return "bad\x00\xff"
	}}}))
	running(t, runner)
	appendTo(t, log, "panic-1", "fine")
	appendTo(t, log, "a-1", "poison")
	behind := appendTo(t, log, "b-1", "the same key")
	waitFor(t, runner, "tally", behind.Position())
	parked, err := runner.Parked(t.Context(), "tally", 10)
	require.NoError(t, err)
	require.Len(t, parked, 2)
	require.Equal(t, "bad\uFFFD\uFFFD", parked[0].Key)
	require.Equal(t, behind.Position(), parked[1].Position)
	poison.off.Store(true)
	require.Eventually(t, func() bool {
		parked, err := runner.Parked(t.Context(), "tally", 10)
		return err == nil && len(parked) == 0
	}, 20*time.Second, 20*time.Millisecond)
	requireFold(t, log, "tally")
}

// Guarantee P5: a table that is locked for long is waited for; its events are not to blame.
func TestALockedTableParksNothing(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	config, failed := quick(&tally{}), make(chan error, 100)
	config.Hooks.Batch = func(info projection.BatchInfo) {
		if info.Err != nil {
			failed <- info.Err
		}
	}
	runner := newRunner(t, log, config)
	running(t, runner)
	waitFor(t, runner, "tally", appendTo(t, log, "a-1", "x").Position())
	altering, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = altering.Rollback(context.WithoutCancel(ctx)) }()
	_, err = altering.Exec(ctx, `LOCK TABLE `+log.Schema()+`.tally_count_v1`)
	require.NoError(t, err)
	last := appendTo(t, log, "a-1", "y", "z")
	for range 2 {
		var refusal *pgconn.PgError
		require.ErrorAs(t, <-failed, &refusal)
		require.Equal(t, "55P03", refusal.Code)
	}
	require.NoError(t, altering.Commit(ctx))
	waitFor(t, runner, "tally", last.Position())
	requireFold(t, log, "tally")
	parked, err := runner.Parked(ctx, "tally", 10)
	require.NoError(t, err)
	require.Empty(t, parked)
}
