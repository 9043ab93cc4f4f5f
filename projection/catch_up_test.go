package projection_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/projection"
)

func TestCatchUp(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	runner := newRunner(t, log, quick(&tally{}))
	require.NoError(t, runner.CatchUp(ctx), "of an empty log, without tables")
	requireFold(t, log, "tally")
	for range 3 {
		appendTo(t, log, "a-1", "one", "two")
		require.NoError(t, runner.CatchUp(ctx))
		requireFold(t, log, "tally")
	}

	require.NoError(t, runner.Pause(ctx, "tally", "for a test"))
	appendTo(t, log, "a-1", "three")
	require.ErrorIs(t, runner.CatchUp(ctx), projection.ErrStopped)

	ended, stop := context.WithCancel(ctx)
	stop()
	require.ErrorIs(t, runner.CatchUp(ended), context.Canceled)

	bare, err := eventstore.New(log.Pool, eventstore.Config{Schema: "nowhere", Codec: noteCodec()})
	require.NoError(t, err)
	missing, err := projection.New(bare, quick(&tally{}))
	require.NoError(t, err)
	require.Error(t, missing.CatchUp(ctx))
}
