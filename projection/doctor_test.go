package projection_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/projection"
)

func TestDoctorSaysWhatIsWrongWithProjections(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := testContext(t, time.Minute)
	poison := &failing{text: "poison"}
	runner := newRunner(t, log, quick(&tally{fails: poison.check}, &tally{spec: projection.Spec{Name: "halted"}}))
	require.NoError(t, runner.Migrate(ctx))
	kinds := func() map[eventstore.FindingKind]string {
		found, err := runner.Doctor(ctx)
		require.NoError(t, err)
		texts := map[eventstore.FindingKind]string{}
		for _, f := range found {
			texts[f.Kind] = f.Text
			if f.Kind == projection.FindingNoWorker {
				require.Equal(t, slog.LevelError, f.Severity)
			}
		}
		return texts
	}
	require.Contains(t, kinds()[projection.FindingNoWorker], "1 of 1 shards that no worker holds")
	running(t, runner)
	require.NoError(t, runner.Pause(ctx, "halted", "a question"))
	last := appendTo(t, log, "a-1", "poison")
	waitFor(t, runner, "tally", last.Position())
	found := kinds()
	require.Contains(t, found[projection.FindingNotRunning], "projection halted, version 1, is paused")
	require.Contains(t, found[projection.FindingNotRunning], "a question")
	require.Contains(t, found[projection.FindingParked], "1 events of 1 keys")
	require.NotContains(t, found, projection.FindingNoWorker)
}
