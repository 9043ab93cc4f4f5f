package projection_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/projection"
)

// awaitBeats returns when a worker's heart has beaten over more than a lease.
func awaitBeats(t *testing.T, log *eventstoretest.Log, worker string) {
	t.Helper()
	var since, until time.Time
	require.Eventually(t, func() bool {
		err := log.Pool.QueryRow(t.Context(), `SELECT seen_until FROM `+log.Schema()+`.projection_workers WHERE worker = $1`, worker).Scan(&until)
		if err == nil && since.IsZero() {
			since = until
		}
		return err == nil && until.Sub(since) > time.Second
	}, 30*time.Second, 20*time.Millisecond)
}

// Guarantee P3: a shard goes only to a worker that runs the same version of the projection, however long it is free.
func TestLeasesGoToTheSameVersion(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	version := func(v int) *projection.Runner {
		config := quick(&tally{spec: projection.Spec{Version: v, Shards: 2}}, specOnly{Name: fmt.Sprintf("only%d", v)})
		config.Worker = fmt.Sprint("version ", v)
		return newRunner(t, log, config)
	}
	holders := func(runner *projection.Runner) (found []string) {
		status, err := runner.Status(ctx)
		require.NoError(t, err)
		for _, s := range status {
			for _, shard := range s.Shards {
				found = append(found, shard.Worker)
			}
		}
		return found
	}
	held := func(by string, runner *projection.Runner) { // a beat may be late
		t.Helper()
		want := []string{by, by, by}
		require.Eventually(t, func() bool { return slices.Equal(want, holders(runner)) }, 20*time.Second, 20*time.Millisecond, "%s", by)
	}
	one, two := version(1), version(2)
	require.NoError(t, one.Migrate(ctx))
	require.NoError(t, two.Migrate(ctx))
	stopOne := running(t, one)
	awaitBeats(t, log, "version 1")
	held("version 1", one)
	require.Equal(t, []string{"", "", ""}, holders(two))
	running(t, two)
	last := appendTo(t, log, "a-1", "x")
	waitFor(t, one, "tally", last.Position())
	waitFor(t, two, "tally", last.Position())
	stopOne()
	awaitBeats(t, log, "version 2")
	held("", one)
	held("version 2", two)
}

// Guarantee P3: a lease that somebody has locked keeps no other from being renewed.
func TestALockedLeaseDelaysNoOther(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	runner := newRunner(t, log, quick(&tally{spec: projection.Spec{Shards: 4}}))
	running(t, runner)
	waitFor(t, runner, "tally", appendTo(t, log, "a-1", "x").Position())
	held, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = held.Rollback(context.WithoutCancel(ctx)) }()
	var stands time.Time
	leases := log.Schema() + ".projection_leases"
	require.NoError(t, held.QueryRow(ctx, `SELECT leased_until FROM `+leases+` WHERE shard = 0 FOR UPDATE`).Scan(&stands))
	var renewed []int32
	require.Eventually(t, func() bool { // more than a lease after the locked one was renewed for the last time
		require.NoError(t, log.Pool.QueryRow(ctx, `
SELECT array_agg(shard ORDER BY shard) FROM `+leases+` WHERE leased_until > $1::timestamptz + interval '1500 ms'`, stands).Scan(&renewed))
		return len(renewed) == 3
	}, 20*time.Second, 20*time.Millisecond)
	require.Equal(t, []int32{1, 2, 3}, renewed)
	require.NoError(t, held.Commit(ctx))
	var last eventstore.Receipt
	for i := range 20 {
		last = appendTo(t, log, fmt.Sprintf("a-%d", i), "y")
	}
	waitFor(t, runner, "tally", last.Position())
	requireFold(t, log, "tally")
}

// Guarantee P3: what is asked back before anybody began to work on it is given back, not held for ever. So it is where two
// workers start at once, and one takes all that is free just before the other is known.
func TestWhatWasNeverBegunIsGivenBack(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	config := quick(&tally{spec: projection.Spec{Shards: 4}})
	config.Worker = "greedy"
	runner := newRunner(t, log, config)
	require.NoError(t, runner.Migrate(ctx))
	for _, sql := range []string{
		`UPDATE {{schema}}.projection_leases SET worker = 'greedy', epoch = 1, leased_until = clock_timestamp() + interval '1 hour'`,
		`INSERT INTO {{schema}}.projection_workers VALUES ('newcomer', '{tally/1/4}', clock_timestamp() + interval '1 hour')`,
	} {
		_, err := log.Pool.Exec(ctx, strings.ReplaceAll(sql, "{{schema}}", log.Schema()))
		require.NoError(t, err)
	}
	running(t, runner)
	held := func() (greedy, free int) {
		require.NoError(t, log.Pool.QueryRow(ctx, `SELECT count(*) FILTER (WHERE worker = 'greedy'), count(*) FILTER (WHERE worker IS NULL) FROM `+log.Schema()+`.projection_leases`).Scan(&greedy, &free))
		return greedy, free
	}
	require.Eventually(t, func() bool { _, free := held(); return free > 0 }, 20*time.Second, 10*time.Millisecond)
	greedy, free := held()
	require.Equal(t, 4, greedy+free)
	require.Positive(t, greedy, "it keeps its share")
}
