package projection_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/projection"
)

// inlineLog is a log whose store has the hook.
func inlineLog(t *testing.T, p projection.Projection) *eventstoretest.Log {
	t.Helper()
	hooks, err := projection.Inline(p)
	require.NoError(t, err)
	return eventstoretest.New(t, eventstore.Config{Codec: noteCodec(), InTx: hooks})
}

func isInline(t *testing.T, log *eventstoretest.Log) (inline bool) {
	t.Helper()
	err := log.Pool.QueryRow(t.Context(), `SELECT coalesce(bool_and(inline), false) FROM `+log.Schema()+`.projections`).Scan(&inline)
	require.NoError(t, err)
	return inline
}

func untilInline(t *testing.T, log *eventstoretest.Log) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !isInline(t, log); time.Sleep(5 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "the appends do not take over")
	}
}

// Guarantee P6: an inline projection is caught up by a runner while others append, is the appends' own from then on, and comes back to the
// runner when it is paused or reset: each event is applied once, in order.
func TestInlineTakesOverWhileOthersAppend(t *testing.T) {
	t.Parallel()
	p := &tally{spec: projection.Spec{Inline: true}}
	log := inlineLog(t, p)
	ctx := testContext(t, time.Minute)
	runner := newRunner(t, log, quick(p))
	require.NoError(t, runner.Migrate(ctx))
	for i := range 200 {
		appendTo(t, log, fmt.Sprintf("a-%d", i%8), "before")
	}
	load, stopLoad := context.WithCancel(ctx)
	var appenders sync.WaitGroup
	var appended atomic.Int64
	more := func() { // appends go on for a while
		t.Helper()
		enough := appended.Load() + 100
		require.Eventually(t, func() bool { return appended.Load() >= enough }, 20*time.Second, time.Millisecond)
	}
	for w := range 8 {
		appenders.Go(func() {
			for i := 0; load.Err() == nil; i++ {
				_, err := log.Append(ctx, eventstore.StreamID(fmt.Sprintf("a-%d", w)), eventstore.Any, note{"during"})
				if err != nil {
					t.Errorf("append: %v", err)
					return
				}
				appended.Add(1)
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	running(t, runner)
	untilInline(t, log)
	more()
	require.NoError(t, runner.Pause(ctx, "tally", "maintenance"))
	require.False(t, isInline(t, log))
	more()
	require.NoError(t, runner.Resume(ctx, "tally"))
	untilInline(t, log)
	require.NoError(t, runner.Reset(ctx, "tally"))
	untilInline(t, log)
	more()
	stopLoad()
	appenders.Wait()
	requireFold(t, log, "tally")

	receipt := appendTo(t, log, "a-1", "read your writes")
	all := tallied(t, log.Pool, log.Schema(), "tally")
	require.EqualValues(t, receipt.Position(), all[len(all)-1].Position)
	require.NoError(t, runner.WaitFor(ctx, "tally", receipt.Position()))
	status, err := runner.Status(ctx)
	require.NoError(t, err)
	require.True(t, status[0].Inline)
	require.Zero(t, status[0].Lag)
}

// Guarantee P6: an inline projection that fails says so, and nothing is written: not by one append, one of many streams, or one in a
// caller's transaction, which can go on.
func TestInlineFailureUndoesTheAppend(t *testing.T) {
	t.Parallel()
	poison := &failing{text: "poison"}
	p := &tally{spec: projection.Spec{Inline: true}, fails: poison.check}
	log := inlineLog(t, p)
	ctx := testContext(t, time.Minute)
	runner := newRunner(t, log, quick(p))
	require.NoError(t, runner.Migrate(ctx))
	running(t, runner)
	appendTo(t, log, "a-1", "fine")
	untilInline(t, log)

	var failed *projection.InlineError
	_, err := log.Append(ctx, "a-1", eventstore.AtVersion(1), note{"fine"}, note{"poison"})
	require.ErrorAs(t, err, &failed)
	require.ErrorIs(t, err, errPoison)
	require.Equal(t, "tally", failed.Name)
	_, err = log.AppendMany(ctx, eventstore.StreamAppend{StreamID: "b-1", Events: []any{note{"fine"}}}, eventstore.StreamAppend{StreamID: "c-1", Events: []any{note{"poison"}}})
	require.ErrorIs(t, err, errPoison)
	require.NoError(t, pgx.BeginFunc(ctx, log.Pool, func(tx pgx.Tx) error {
		_, err := log.WithTx(tx).Append(ctx, "d-1", eventstore.NoStream, note{"poison"})
		require.ErrorIs(t, err, errPoison)
		_, err = log.WithTx(tx).Append(ctx, "d-1", eventstore.NoStream, note{"fine"})
		return err
	}))
	require.ErrorIs(t, pgx.BeginFunc(ctx, log.Pool, func(tx pgx.Tx) error {
		_, err := log.WithTx(tx).Append(ctx, "e-1", eventstore.NoStream, note{"rolled back"})
		require.NoError(t, err)
		return errPoison
	}), errPoison)
	receipt, err := log.AppendMany(ctx, eventstore.StreamAppend{StreamID: "b-1", Events: []any{note{"fine"}}}, eventstore.StreamAppend{StreamID: "c-1", Events: []any{note{"fine"}}})
	require.NoError(t, err)
	require.Len(t, receipt, 2)
	requireFold(t, log, "tally")

	// A repeated append applies nothing again.
	event := eventstore.Event{ID: mustID(), Data: note{"once"}}
	first, err := log.Append(ctx, "a-1", eventstore.AtVersion(1), event)
	require.NoError(t, err)
	again, err := log.Append(ctx, "a-1", eventstore.AtVersion(1), event)
	require.NoError(t, err)
	require.True(t, again.Repeated)
	require.Equal(t, first.Positions, again.Positions)
	_, err = log.Append(ctx, "a-1", eventstore.AtVersion(1), note{"too late"})
	require.True(t, errors.Is(err, eventstore.ErrConflict))
	requireFold(t, log, "tally")

	_, err = log.Import(ctx, nil, eventstore.ImportConfig{Name: "x"})
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	_, err = projection.Inline(&tally{})
	require.ErrorIs(t, err, eventstore.ErrInvalid, "it is not inline")
}
