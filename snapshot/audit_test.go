package snapshot_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/snapshot"
)

// Guarantee S1: a fold that was changed under the same version is found out, and its snapshots are used no more.
func TestAuditPutsAFoldThatLiesInQuarantine(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := t.Context()
	config := snapshot.Config{Every: 5}
	honest := newLoader(t, log, diaryFold(), config)
	for i := range 6 {
		id := eventstore.StreamID(fmt.Sprintf("a-%d", i))
		write(t, log, id, 12)
		_, err := honest.Load(ctx, id)
		require.NoError(t, err)
	}
	report, err := honest.Audit(ctx, 4)
	require.NoError(t, err)
	require.Equal(t, snapshot.Audited{Fold: "diary", Version: 1, Format: 1, Checked: 4}, report)

	changed := diaryFold()
	apply := changed.Apply
	changed.Apply = func(d diary, e eventstore.Recorded) (diary, error) {
		d, err := apply(d, e)
		if e.Version == 2 {
			d.Texts[1] += "!"
		}
		return d, err
	}
	lying := newLoader(t, log, changed, config)
	report, err = lying.Audit(ctx, 100)
	require.NoError(t, err)
	require.True(t, report.Quarantined)
	require.Equal(t, 6, report.Checked)
	require.Len(t, report.Lies, 6)
	require.Len(t, report.Lies[0].Changes, 1)
	require.Equal(t, `/texts/1: "2:1" → "2:1!"`, report.Lies[0].Changes[0].String())
	before := len(versionsKept(t, log))
	for _, loader := range []*snapshot.Loader[diary]{honest, lying} {
		found, err := loader.Load(ctx, "a-0")
		require.NoError(t, err)
		require.Zero(t, found.Snapshot, "folded from zero")
	}
	require.Len(t, versionsKept(t, log), before, "none is written")

	changed.Version = 2
	next := newLoader(t, log, changed, config)
	for _, want := range []eventstore.Version{0, 10} {
		found, err := next.Load(ctx, "a-0")
		require.NoError(t, err)
		require.Equal(t, want, found.Snapshot)
		require.Equal(t, "2:1!", found.State.Texts[1])
	}
	gone, err := next.Prune(ctx)
	require.NoError(t, err)
	require.EqualValues(t, before, gone)
	require.Equal(t, []int64{5, 10}, versionsKept(t, log))
	_, err = next.Audit(ctx, 0)
	require.ErrorIs(t, err, eventstore.ErrInvalid)
}

// A snapshot that is newer than its stream, as after a restore from an older copy, is no lie; a stream whose fold fails does not
// keep one from being found.
func TestAuditTellsALieFromAnotherLog(t *testing.T) {
	t.Parallel()
	log, older := newLog(t), newLog(t)
	ctx := t.Context()
	write(t, log, "a-1", 5)
	write(t, older, "a-1", 3)
	_, err := newLoader(t, log, diaryFold(), snapshot.Config{Every: 5}).Load(ctx, "a-1")
	require.NoError(t, err)
	_, err = older.Pool.Exec(ctx, `INSERT INTO `+older.Schema()+`.snapshots SELECT * FROM `+log.Schema()+`.snapshots`)
	require.NoError(t, err)
	loader := newLoader(t, older, diaryFold(), snapshot.Config{Every: 5})
	report, err := loader.Audit(ctx, 10)
	require.NoError(t, err)
	require.Equal(t, snapshot.Audited{Fold: "diary", Version: 1, Format: 1, Unusable: 1}, report)

	failing := diaryFold()
	failing.Apply = func(d diary, e eventstore.Recorded) (diary, error) {
		if e.StreamID == "a-1" {
			return d, errors.New("no such day")
		}
		d.Texts = append(d.Texts, "changed")
		return d, nil
	}
	write(t, log, "b-1", 5)
	_, err = newLoader(t, log, diaryFold(), snapshot.Config{Every: 5}).Load(ctx, "b-1")
	require.NoError(t, err)
	lying := newLoader(t, log, failing, snapshot.Config{Every: 5})
	require.Eventually(t, func() bool { // the sample's order is random: one where the lie comes first
		report, err = lying.Audit(ctx, 10)
		require.ErrorContains(t, err, "no such day")
		return report.Quarantined
	}, 20*time.Second, time.Millisecond)
	_, err = newLoader(t, log, diaryFold(), snapshot.Config{}).Snapshot(ctx, "b-1")
	require.ErrorIs(t, err, snapshot.ErrQuarantined)
}

// forgetful loses a part of itself in its JSON.
type forgetful struct {
	N      int `json:"n"`
	Hidden int `json:"-"`
}

// What a state loses in its JSON shows at the end of the stream.
func TestAuditFindsAStateThatDoesNotSurviveItsJSON(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := t.Context()
	loader, err := snapshot.NewLoader(log.Store, snapshot.Fold[forgetful]{
		Name: "forgetful", Version: 1,
		New: func(eventstore.StreamID) forgetful { return forgetful{} },
		Apply: func(f forgetful, _ eventstore.Recorded) (forgetful, error) {
			f.Hidden++
			f.N = f.Hidden
			return f, nil
		},
	}, snapshot.Config{Every: 5})
	require.NoError(t, err)
	write(t, log, "a-1", 5)
	_, err = loader.Load(ctx, "a-1")
	require.NoError(t, err)
	write(t, log, "a-1", 1)
	report, err := loader.Audit(ctx, 10)
	require.NoError(t, err)
	require.True(t, report.Quarantined)
	require.Len(t, report.Lies, 1)
	require.EqualValues(t, 6, report.Lies[0].Version)
	require.Equal(t, "/n: 1 → 6", report.Lies[0].Changes[0].String())
}

// A damaged snapshot is no lie: it is deleted.
func TestAuditDeletesWhatIsDamaged(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := t.Context()
	loader := newLoader(t, log, diaryFold(), snapshot.Config{Every: 5})
	write(t, log, "a-1", 5)
	_, err := loader.Load(ctx, "a-1")
	require.NoError(t, err)
	_, err = log.Pool.Exec(ctx, `UPDATE `+log.Schema()+`.snapshots SET state = '{}'`)
	require.NoError(t, err)
	report, err := loader.Audit(ctx, 10)
	require.NoError(t, err)
	require.Equal(t, snapshot.Audited{Fold: "diary", Version: 1, Format: 1, Unusable: 1}, report)
	require.Empty(t, versionsKept(t, log))
}
