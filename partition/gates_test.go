package partition_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/partition"
	"github.com/sight-platform/hindsight/projection"
)

// detached is a log whose January stands its quarantine.
func detached(t *testing.T) (log *eventstoretest.Log, blob spoilt, now *partition.Months) {
	t.Helper()
	log, blob = newLog(t, 200), newSpoilt(t)
	_, err := newMonths(t, log, partition.Config{Archive: blob, Quarantine: time.Hour}).Archive(testContext(t), january)
	require.ErrorContains(t, err, "quarantine goes on for 1h0m0s")
	requireDetached(t, log)
	return log, blob, newMonths(t, log, partition.Config{Archive: blob})
}

func requireDetached(t *testing.T, log *eventstoretest.Log) {
	t.Helper()
	require.Equal(t, "detached", states(t, log)["2024-01"])
	var there bool
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT to_regclass($1) IS NOT NULL`, log.Schema()+".events_2024_01").Scan(&there))
	require.True(t, there)
}

// Guarantee M3: a checkpoint that comes, or falls back, while a month is in quarantine stops the drop; a released one that moves holds
// months again.
func TestTheDropWaitsForCheckpointsAgain(t *testing.T) {
	t.Parallel()
	log, _, now := detached(t)
	ctx := testContext(t)
	refused := func() {
		t.Helper()
		_, err := now.Archive(ctx, january)
		var notYet *partition.NotYetError
		require.ErrorAs(t, err, &notYet)
		require.Len(t, notYet.Behind, 1)
		require.Equal(t, "back", notYet.Behind[0].Name)
		requireDetached(t, log)
	}
	exec(t, log, `INSERT INTO `+log.Schema()+`.checkpoints (name, version, shard, position) VALUES ('back', 1, 0, 5)`)
	refused()
	require.NoError(t, now.Release(ctx, "back", 1, "an experiment"))
	var reason string
	require.NoError(t, log.Pool.QueryRow(ctx, `SELECT reason FROM `+log.Schema()+`.partition_releases`).Scan(&reason))
	require.Equal(t, "an experiment", reason)
	exec(t, log, `UPDATE `+log.Schema()+`.checkpoints SET position = 6, updated_at = clock_timestamp()`)
	refused()
	require.NoError(t, now.Release(ctx, "back", 1, "an experiment, still"))
	state, err := now.Archive(ctx, january)
	require.NoError(t, err)
	require.Equal(t, partition.Dropped, state)
}

// refusing parks every discussion.
type refusing struct{}

func (refusing) Spec() projection.Spec {
	return projection.Spec{Name: "refusing", Categories: []string{"discussion"}}
}

func (refusing) Apply(context.Context, pgx.Tx, *projection.Batch) error { return errors.New("refused") }

// Guarantee M3: parked events hold their month; a release lets those go that were parked before it, and no later ones.
func TestParkedEventsHoldTheirMonth(t *testing.T) {
	t.Parallel()
	log := newLog(t, 200)
	ctx := testContext(t)
	runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{refusing{}}})
	require.NoError(t, err)
	require.NoError(t, runner.CatchUp(ctx))
	months := newMonths(t, log, partition.Config{Archive: newDir(t)})
	held := func() {
		t.Helper()
		_, err = months.Archive(ctx, january)
		var notYet *partition.NotYetError
		require.ErrorAs(t, err, &notYet)
		require.Len(t, notYet.Behind, 1)
		require.True(t, notYet.Behind[0].Parked)
		require.ErrorContains(t, err, "refusing version 1 with parked events from position")
		require.Equal(t, "verified", states(t, log)["2024-01"])
	}
	held()
	exec(t, log, `UPDATE `+log.Schema()+`.projection_parked SET parked_at = now() - interval '2 days'`)
	findings, err := months.Doctor(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, findings)
	require.Contains(t, findings[len(findings)-1].Text, "checkpoint refusing version 1 has parked events from position")
	require.NoError(t, months.Release(ctx, "refusing", 1, "they are of no use"))
	exec(t, log, `UPDATE `+log.Schema()+`.projection_parked SET parked_at = clock_timestamp() WHERE position = (SELECT min(position) FROM `+log.Schema()+`.projection_parked)`)
	held()
	require.NoError(t, months.Release(ctx, "refusing", 1, "nor is this one"))
	state, err := months.Archive(ctx, january)
	require.NoError(t, err)
	require.Equal(t, partition.Dropped, state)
}

// Guarantee M2: objects that are damaged after they were verified stop the drop.
func TestAnArchiveThatIsDamagedInQuarantineStopsTheDrop(t *testing.T) {
	t.Parallel()
	log, blob, now := detached(t)
	ctx := testContext(t)
	keys, err := blob.List(ctx, "")
	require.NoError(t, err)
	require.Len(t, keys, 4)
	for _, key := range keys {
		for _, change := range []func([]byte) []byte{
			func(b []byte) []byte { b = bytes.Clone(b); b[len(b)/3] ^= 4; return b },
			func([]byte) []byte { return nil },
		} {
			content, err := blob.Get(ctx, key)
			require.NoError(t, err)
			blob.change(t, key, change)
			_, err = now.Archive(ctx, january)
			var damaged *partition.DamagedError
			require.ErrorAs(t, err, &damaged)
			require.Equal(t, key, damaged.Key)
			requireDetached(t, log)
			require.NoError(t, blob.Delete(ctx, key))
			require.NoError(t, blob.Put(ctx, key, content))
		}
	}
	state, err := now.Archive(ctx, january)
	require.NoError(t, err)
	require.Equal(t, partition.Dropped, state)
}

// A month in quarantine is put back from its table, without its archive: every read gives what it gave before, and the log is sound.
func TestAMonthIsPutBackFromQuarantine(t *testing.T) {
	t.Parallel()
	log := newLog(t, 500)
	ctx := testContext(t)
	all := collect(t, log.All(ctx, 0, eventstore.Filter{}))
	streams := someStreams(all)
	middle := all[len(all)/3].Position
	before := readAll(t, log.Store, streams, middle, nil)
	blob := newDir(t)
	months := newMonths(t, log, partition.Config{Archive: blob, Quarantine: time.Hour})
	_, err := months.Archive(ctx, january)
	require.ErrorIs(t, err, partition.ErrNotYet)
	requireDetached(t, log)
	_, err = gather(log.All(ctx, 0, eventstore.Filter{}))
	require.ErrorIs(t, err, eventstore.ErrArchived)
	keys, err := blob.List(ctx, "")
	require.NoError(t, err)
	for _, key := range keys {
		require.NoError(t, blob.Delete(ctx, key))
	}
	require.NoError(t, months.Restore(ctx, january))
	require.Equal(t, "restored", states(t, log)["2024-01"])
	require.Equal(t, before, readAll(t, log.Store, streams, middle, nil))
	findings, err := log.Doctor(ctx)
	require.NoError(t, err)
	for _, finding := range findings {
		require.False(t, finding.Month.Equal(january), finding.Text)
	}
	_, err = log.Pool.Exec(ctx, `DELETE FROM `+log.Schema()+`.events_2024_01`)
	require.ErrorContains(t, err, "append-only")
}

// Two logs of one archive are told apart before one adopts what the other has written; nothing is dropped, and nothing is replaced.
func TestAnArchiveBelongsToOneLog(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	mine, other := newLog(t, 200), newLog(t, 300)
	blob := newSpoilt(t)
	state, err := newMonths(t, other, partition.Config{Archive: blob}).Archive(ctx, january)
	require.NoError(t, err)
	require.Equal(t, partition.Dropped, state)
	months := newMonths(t, mine, partition.Config{Archive: blob})
	_, err = months.Archive(ctx, january)
	require.ErrorIs(t, err, partition.ErrOtherLog)
	require.NotErrorIs(t, err, partition.ErrDamaged)
	require.Equal(t, "sealed", states(t, mine)["2024-01"])
	manifest, err := blob.Get(ctx, "year=2024/month=01/manifest.json")
	require.NoError(t, err)
	require.NoError(t, blob.Delete(ctx, "year=2024/month=01/manifest.json")) // as of an export that has not ended
	_, err = months.Archive(ctx, january)
	require.ErrorIs(t, err, partition.ErrOtherLog)
	require.NoError(t, blob.Put(ctx, "year=2024/month=01/manifest.json", manifest))
	require.NotEmpty(t, collect(t, withCold(t, other, blob, 100).All(ctx, 0, eventstore.Filter{})))
}

// Run makes its tables, moves months on, and ends with its context. Without the tables the other verbs say what is missing.
func TestRun(t *testing.T) {
	t.Parallel()
	log := newLog(t, 100)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	store, err := eventstore.New(direct(t), eventstore.Config{Schema: log.Schema()})
	require.NoError(t, err)
	months, err := partition.New(store, partition.Config{
		Archive: newDir(t), Online: 2, Quarantine: time.Nanosecond, Interval: time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	_, err = months.Maintain(ctx)
	require.ErrorIs(t, err, eventstore.ErrSchemaMissing)
	ended := make(chan error, 1)
	go func() { ended <- months.Run(ctx) }()
	want := func(month, state string) bool { return states(t, log)[month] == state }
	require.Eventually(t, func() bool {
		return want("2024-01", "dropped") && want("2024-02", "sealed") && want("2024-03", "sealed")
	}, time.Minute, 20*time.Millisecond, "two months that are over stay")
	exec(t, log, `UPDATE `+log.Schema()+`.months SET state = 'open' WHERE month = '2024-03-01'`)
	require.Eventually(t, func() bool { return want("2024-03", "sealed") }, time.Minute, 20*time.Millisecond, "it runs again after the interval")
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}

// What a run has done, and what waits, is told.
func TestMaintainTellsWhatItDid(t *testing.T) {
	t.Parallel()
	log := newLog(t, 100)
	ctx := testContext(t)
	exec(t, log, `INSERT INTO `+log.Schema()+`.checkpoints (name, version, shard, position) VALUES ('slow', 1, 0, 5)`)
	blob := newDir(t)
	done, err := newMonths(t, log, partition.Config{Archive: blob, Online: 2}).Maintain(ctx)
	require.NoError(t, err)
	require.Equal(t, []partition.Move{
		{Month: january, From: partition.Open, To: partition.Verified},
		{Month: february, From: partition.Open, To: partition.Sealed},
		{Month: march, From: partition.Open, To: partition.Sealed},
	}, done.Moved[:3])
	require.Len(t, done.Waiting, 1)
	require.Equal(t, january, done.Waiting[0].Month)
	exec(t, log, `UPDATE `+log.Schema()+`.checkpoints SET position = 1000000`)
	// What was begun goes on, even where the policy would keep the month now.
	done, err = newMonths(t, log, partition.Config{Archive: blob, Online: 1000}).Maintain(ctx)
	require.NoError(t, err)
	require.Equal(t, []partition.Move{{Month: january, From: partition.Verified, To: partition.Dropped}}, done.Moved)
}
