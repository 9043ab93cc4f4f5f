package projection_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/projection"
)

// What an operator asks before anybody has run the projections is told so, by one error.
func TestBeforeMigrate(t *testing.T) {
	t.Parallel()
	inline := &tally{spec: projection.Spec{Name: "inline", Inline: true}}
	log := inlineLog(t, inline)
	ctx := testContext(t, time.Minute)
	runner := newRunner(t, log, quick(&tally{}, inline))
	refuses := func(name string) {
		t.Helper()
		for call, err := range map[string]error{
			"Pause": runner.Pause(ctx, name, "x"), "Resume": runner.Resume(ctx, name), "Reset": runner.Reset(ctx, name),
		} {
			require.ErrorIs(t, err, projection.ErrNotMigrated, call)
		}
	}
	refuses("tally")
	refuses("inline")
	_, err := runner.Status(ctx)
	require.ErrorIs(t, err, projection.ErrNotMigrated)
	require.ErrorContains(t, err, "call Runner.Migrate")
	_, err = runner.Parked(ctx, "tally", 10)
	require.ErrorIs(t, err, projection.ErrNotMigrated)
	_, err = runner.Doctor(ctx)
	require.ErrorIs(t, err, projection.ErrNotMigrated)
	require.ErrorIs(t, runner.Retry(ctx, "tally", ""), projection.ErrNotMigrated)
	require.ErrorIs(t, runner.Skip(ctx, "tally", 1, "x"), projection.ErrNotMigrated)
	require.ErrorIs(t, runner.Grant(ctx, "anybody"), projection.ErrNotMigrated)
	_, err = log.Append(ctx, "a-1", eventstore.NoStream, note{"x"})
	require.ErrorIs(t, err, projection.ErrNotMigrated)

	// WaitFor waits for whoever makes them: a program may wait as soon as it has begun to run.
	waiting, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, runner.WaitFor(waiting, "tally", 1), context.DeadlineExceeded)

	// The tables of this package are there, those of the projections are not.
	require.NoError(t, newRunner(t, log, quick(specOnly{Name: "other"})).Migrate(ctx))
	refuses("tally")
	refuses("inline")
	require.NoError(t, runner.Migrate(ctx))
	require.NoError(t, runner.Pause(ctx, "tally", "x"))
}

// waitsForALock is when a statement of this schema does.
func waitsForALock(t *testing.T, log *eventstoretest.Log) {
	t.Helper()
	require.Eventually(t, func() (waits bool) {
		require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%')`, log.Schema()).Scan(&waits))
		return waits
	}, 20*time.Second, 5*time.Millisecond)
}

// Pause and Reset lock what a worker that stops its projection locks, in the same order: neither is a deadlock's victim.
func TestControlAndAWorkerThatStopsLockInOneOrder(t *testing.T) {
	t.Parallel()
	for name, control := range map[string]func(context.Context, *projection.Runner) error{
		"pause": func(ctx context.Context, r *projection.Runner) error { return r.Pause(ctx, "tally", "x") },
		"reset": func(ctx context.Context, r *projection.Runner) error { return r.Reset(ctx, "tally") },
	} {
		for _, inline := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, inline %v", name, inline), func(t *testing.T) {
				t.Parallel()
				log := newLog(t)
				ctx := testContext(t, time.Minute)
				runner := newRunner(t, log, quick(&tally{spec: projection.Spec{Inline: inline}}))
				require.NoError(t, runner.Migrate(ctx))
				_, err := log.Pool.Exec(ctx, `UPDATE `+log.Schema()+`.projections SET inline = $1`, inline)
				require.NoError(t, err)
				worker, err := log.Pool.Begin(ctx) // as in sql/lock_checkpoint.sql and sql/stop.sql
				require.NoError(t, err)
				defer func() { _ = worker.Rollback(context.WithoutCancel(ctx)) }()
				_, err = worker.Exec(ctx, `SELECT FROM `+log.Schema()+`.checkpoints FOR UPDATE`)
				require.NoError(t, err)
				done := make(chan error, 1)
				go func() { done <- control(ctx, runner) }()
				waitsForALock(t, log)
				_, err = worker.Exec(ctx, `UPDATE `+log.Schema()+`.projections SET state = 'stopped', reason = 'too many'`)
				require.NoError(t, err)
				require.NoError(t, worker.Commit(ctx))
				require.NoError(t, <-done)
			})
		}
	}
}

// Two operators pause and resume at the moment in which a worker stops the projection for too many parked keys: nobody gets an error.
func TestPausingWhileAWorkerStops(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, 2*time.Minute)
	failed := make(chan struct{}, 1) // an event is about to be parked
	config := quick(&tally{spec: projection.Spec{Shards: 4, MaxParkedKeys: 1}, fails: func(eventstore.Recorded) error {
		select {
		case failed <- struct{}{}:
		default:
		}
		return errPoison
	}})
	config.RetryAfter = time.Hour
	runner := newRunner(t, log, config)
	require.NoError(t, runner.Migrate(ctx))
	var last eventstore.Receipt
	for i := range 200 {
		last = appendTo(t, log, fmt.Sprintf("a-%d", i), "poison")
	}
	running(t, runner)
	var operators sync.WaitGroup
	for range 2 {
		operator := newRunner(t, log, config)
		operators.Go(func() {
			for range 8 {
				select {
				case <-failed:
				case <-ctx.Done():
				}
				if err := errors.Join(operator.Pause(ctx, "tally", "a look"), operator.Resume(ctx, "tally")); err != nil {
					t.Errorf("control: %v", err)
					return
				}
			}
		})
	}
	operators.Wait()
	err := runner.WaitFor(ctx, "tally", last.Position()) // the worker has the last word
	var stopped *projection.StoppedError
	require.ErrorAs(t, err, &stopped)
	require.Equal(t, projection.Stopped, stopped.State)
}
