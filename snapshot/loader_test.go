package snapshot_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/snapshot"
)

// note is the payload of these tests.
type note struct {
	Text string `json:"text"`
}

// diary is a state that shows every event it was given.
type diary struct {
	Texts []string `json:"texts"`
}

func diaryFold() snapshot.Fold[diary] {
	return snapshot.Fold[diary]{
		Name: "diary", Version: 1,
		New: func(eventstore.StreamID) diary { return diary{} },
		Apply: func(d diary, e eventstore.Recorded) (diary, error) {
			d.Texts = append(d.Texts, fmt.Sprintf("%d:%s", e.Version, e.Data.(note).Text))
			return d, nil
		},
	}
}

func newLog(t testing.TB) *eventstoretest.Log {
	t.Helper()
	codec, err := eventstore.NewCodec(eventstore.Type[note]("note"))
	require.NoError(t, err)
	log := eventstoretest.New(t, eventstore.Config{Codec: codec})
	require.NoError(t, snapshot.Migrate(t.Context(), log.Store))
	return log
}

func newLoader(t testing.TB, log *eventstoretest.Log, fold snapshot.Fold[diary], config snapshot.Config) *snapshot.Loader[diary] {
	t.Helper()
	loader, err := snapshot.NewLoader(log.Store, fold, config)
	require.NoError(t, err)
	return loader
}

func write(t testing.TB, log *eventstoretest.Log, id eventstore.StreamID, n int) {
	t.Helper()
	events := make([]any, n)
	for i := range events {
		events[i] = note{fmt.Sprint(i)}
	}
	_, err := log.Append(t.Context(), id, eventstore.Any, events...)
	require.NoError(t, err)
}

// Guarantee S1, whatever is asked: snapshots shorten the way and never change the answer.
func TestEveryAsOfIsTheFoldFromZero(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := t.Context()
	random := rand.New(rand.NewPCG(1, 2))
	loader := newLoader(t, log, diaryFold(), snapshot.Config{Every: 3, Keep: 1000})
	occurred := time.Now().UTC().Truncate(time.Microsecond)
	for i := range 120 {
		occurred = occurred.Add(time.Duration(random.IntN(2000)-500) * time.Millisecond) // people talk over each other
		_, err := log.Append(ctx, "a-1", eventstore.Any, eventstore.Event{Data: note{fmt.Sprint(i)}, OccurredAt: occurred})
		require.NoError(t, err)
		if random.IntN(3) == 0 {
			_, err := loader.Load(ctx, "a-1")
			require.NoError(t, err)
		}
		if random.IntN(2) == 0 {
			write(t, log, "b-1", 1)
		}
	}
	events := eventstoretest.Collect(t, log.Stream(ctx, "a-1", 0))
	fold := func(holds func(eventstore.Recorded) bool) diary {
		d := diary{}
		for _, e := range events {
			if holds(e) {
				d.Texts = append(d.Texts, fmt.Sprintf("%d:%s", e.Version, e.Data.(note).Text))
			}
		}
		return d
	}
	used := 0
	ask := func(at snapshot.At, holds func(eventstore.Recorded) bool) {
		t.Helper()
		found, err := loader.AsOf(ctx, "a-1", at)
		require.NoError(t, err)
		require.Equal(t, fold(holds), found.State, "%+v", at)
		if found.Snapshot > 0 {
			used++
		}
	}
	for _, e := range events {
		ask(snapshot.At{Version: e.Version}, func(o eventstore.Recorded) bool { return o.Version <= e.Version })
		ask(snapshot.At{Position: e.Position}, func(o eventstore.Recorded) bool { return o.Position <= e.Position })
		ask(snapshot.At{Recorded: e.RecordedAt}, func(o eventstore.Recorded) bool { return !o.RecordedAt.After(e.RecordedAt) })
		ask(snapshot.At{Recorded: e.RecordedAt.Add(-time.Microsecond)}, func(o eventstore.Recorded) bool { return o.RecordedAt.Before(e.RecordedAt) })
		ask(snapshot.At{Occurred: e.OccurredAt}, func(o eventstore.Recorded) bool { return !o.OccurredAt.After(e.OccurredAt) })
		other := events[random.IntN(len(events))]
		ask(snapshot.At{Recorded: e.RecordedAt, Occurred: other.OccurredAt}, func(o eventstore.Recorded) bool {
			return !o.RecordedAt.After(e.RecordedAt) && !o.OccurredAt.After(other.OccurredAt)
		})
	}
	require.Greater(t, used, len(events), "snapshots were used")
	before, err := loader.AsOf(ctx, "a-1", snapshot.At{Recorded: events[0].RecordedAt.Add(-time.Second)})
	require.NoError(t, err)
	require.Zero(t, before.Version)
	_, err = loader.AsOf(ctx, "a-1", snapshot.At{Recorded: time.Now().Add(time.Hour)})
	require.ErrorIs(t, err, snapshot.ErrFuture)
	_, err = loader.Load(ctx, "nobody-1")
	require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
}

// Guarantee S3: an append that was under way then, and commits later, does not change what was known.
func TestWhatWasKnownNeverChanges(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := t.Context()
	loader := newLoader(t, log, diaryFold(), snapshot.Config{})
	write(t, log, "a-1", 2)
	slow, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = slow.Rollback(context.WithoutCancel(ctx)) }()
	receipt, err := log.WithTx(slow).Append(ctx, "a-1", eventstore.Any, note{"slow"})
	require.NoError(t, err)
	at := snapshot.At{Recorded: receipt.RecordedAt} // it bears this time, and nobody knows it yet
	first, err := loader.AsOf(ctx, "a-1", at)
	require.NoError(t, err)
	require.Len(t, first.State.Texts, 2)
	require.NoError(t, slow.Commit(ctx))
	_, err = loader.AsOf(ctx, "a-1", snapshot.At{Position: receipt.Position() + 1})
	require.ErrorIs(t, err, snapshot.ErrFuture)
	again, err := loader.AsOf(ctx, "a-1", at)
	require.NoError(t, err)
	require.Equal(t, first.State, again.State)
	now, err := loader.Load(ctx, "a-1")
	require.NoError(t, err)
	require.Len(t, now.State.Texts, 3)
}

// Guarantee S3: of those who ask for the same time at once, each gets the same answer, while appends go on, and where sessions
// are stricter than READ COMMITTED by default.
func TestWhatWasKnownIsOneAnswerForAll(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	strict := eventstoretest.Pool(t, log.Pool.Config().ConnString(), func(c *pgxpool.Config) {
		c.ConnConfig.RuntimeParams["default_transaction_isolation"] = "repeatable read"
	})
	store, err := eventstore.New(strict, eventstore.Config{Schema: log.Schema()})
	require.NoError(t, err)
	loaders := []*snapshot.Loader[int]{}
	for _, s := range []*eventstore.Store{log.Store, store} {
		loader, err := snapshot.NewLoader(s, snapshot.Fold[int]{
			Name: "count", Version: 1, New: func(eventstore.StreamID) int { return 0 },
			Apply: func(n int, _ eventstore.Recorded) (int, error) { return n + 1, nil },
		}, snapshot.Config{})
		require.NoError(t, err)
		loaders = append(loaders, loader)
	}
	for range 20 {
		write(t, log, "a-1", 1)
		var now time.Time
		require.NoError(t, log.Pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now))
		answers := make([]int, 8)
		var group errgroup.Group
		for i := range answers {
			group.Go(func() error {
				if _, err := log.Append(ctx, "a-1", eventstore.Any, note{"meanwhile"}); err != nil {
					return err
				}
				found, err := loaders[i%2].AsOf(ctx, "a-1", snapshot.At{Recorded: now})
				answers[i] = found.State
				return err
			})
		}
		require.NoError(t, group.Wait())
		for _, answer := range answers {
			require.Equal(t, answers[0], answer)
		}
		require.Positive(t, answers[0])
	}
	var moments int
	require.NoError(t, log.Pool.QueryRow(ctx, `SELECT count(*) FROM `+log.Schema()+`.moments`).Scan(&moments))
	for range 5 { // nothing is settled between
		_, err := loaders[1].AsOf(ctx, "a-1", snapshot.At{Recorded: time.Now().Add(-time.Millisecond)})
		require.NoError(t, err)
	}
	var after int
	require.NoError(t, log.Pool.QueryRow(ctx, `SELECT count(*) FROM `+log.Schema()+`.moments`).Scan(&after))
	require.LessOrEqual(t, after, moments+1, "asking again and again keeps one moment")
}

// Guarantee S3: one makes the moment, and who waited meanwhile gets that one, though the log has grown.
func TestWhoMakesAMomentIsAlone(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	loader := newLoader(t, log, diaryFold(), snapshot.Config{})
	write(t, log, "a-1", 1)
	var at time.Time
	require.NoError(t, log.Pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&at))
	holder, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = holder.Rollback(context.WithoutCancel(ctx)) }()
	var key int64
	require.NoError(t, holder.QueryRow(ctx, `SELECT k, pg_advisory_xact_lock(k) FROM (SELECT '`+log.Schema()+`.moments'::regclass::oid::bigint AS k) AS l`).Scan(&key, nil))
	answers := make(chan snapshot.Loaded[diary], 2)
	var group errgroup.Group
	ask := func(waiting int) {
		group.Go(func() error {
			found, err := loader.AsOf(ctx, "a-1", snapshot.At{Recorded: at})
			answers <- found
			return err
		})
		require.Eventually(t, func() (waits bool) {
			require.NoError(t, holder.QueryRow(ctx, `SELECT count(*) = $2 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid::bigint = $1`, key, waiting).Scan(&waits))
			return waits
		}, 20*time.Second, time.Millisecond)
	}
	ask(1)
	write(t, log, "a-1", 1)
	ask(2)
	require.NoError(t, holder.Rollback(ctx))
	require.NoError(t, group.Wait())
	require.Equal(t, (<-answers).State, (<-answers).State)
	var moments int
	require.NoError(t, log.Pool.QueryRow(ctx, `SELECT count(*) FROM `+log.Schema()+`.moments`).Scan(&moments))
	require.Equal(t, 1, moments)
}

// emptied is a state from which what New puts in goes again.
type emptied struct {
	Marks  map[string]int `json:"marks"`
	Status string         `json:"status,omitempty"`
}

// Guarantee S1: a snapshot is the state that was stored, whatever New makes.
func TestASnapshotIsNotMixedWithANewState(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	loader, err := snapshot.NewLoader(log.Store, snapshot.Fold[*emptied]{
		Name: "emptied", Version: 1,
		New: func(eventstore.StreamID) *emptied { return &emptied{map[string]int{"welcome": 1}, "new"} },
		Apply: func(s *emptied, _ eventstore.Recorded) (*emptied, error) {
			delete(s.Marks, "welcome")
			s.Status = ""
			return s, nil
		},
	}, snapshot.Config{Every: 2})
	require.NoError(t, err)
	write(t, log, "a-1", 2)
	for _, want := range []eventstore.Version{0, 2} {
		found, err := loader.Load(t.Context(), "a-1")
		require.NoError(t, err)
		require.Equal(t, want, found.Snapshot)
		require.Equal(t, &emptied{Marks: map[string]int{}}, found.State)
	}
}

// Guarantee S2: whoever has locked the snapshots delays a load by a second, and no more.
func TestLockedSnapshotsDelayNobodyForLong(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := t.Context()
	write(t, log, "a-1", 4)
	altering, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = altering.Rollback(context.WithoutCancel(ctx)) }()
	_, err = altering.Exec(ctx, `LOCK TABLE `+log.Schema()+`.snapshots IN SHARE MODE`)
	require.NoError(t, err)
	found, err := newLoader(t, log, diaryFold(), snapshot.Config{Every: 2}).Load(ctx, "a-1")
	require.NoError(t, err)
	require.Len(t, found.State.Texts, 4)
	require.Empty(t, versionsKept(t, log))
}

// Guarantee S1: what is corrupt, was edited by hand, belongs to another fold, or to a log that was restored, is not used.
func TestSnapshotsThatAreNotUsed(t *testing.T) {
	t.Parallel()
	var ignored []snapshot.Ignored
	config := snapshot.Config{Every: 5, Ignored: func(i snapshot.Ignored) { ignored = append(ignored, i) }}
	for name, change := range map[string]string{
		"an edited state":            `UPDATE {{schema}}.snapshots SET state = replace(state, '1:0', '1:X')`,
		"a digest of something else": `UPDATE {{schema}}.snapshots SET digest = sha256('x')`,
		"another stream's":           `UPDATE {{schema}}.snapshots SET stream_id = 'a-2'`,
		"a version too high":         `UPDATE {{schema}}.snapshots SET version = version + 1`,
		"another position":           `UPDATE {{schema}}.snapshots SET position = 1`,
		"another recorded time":      `UPDATE {{schema}}.snapshots SET recorded_at = recorded_at - interval '1 day'`,
		"another occurred time":      `UPDATE {{schema}}.snapshots SET occurred_to = occurred_to - interval '1 day'`,
	} {
		log := newLog(t)
		loader := newLoader(t, log, diaryFold(), config)
		write(t, log, "a-1", 10)
		write(t, log, "a-2", 10)
		_, err := loader.Load(t.Context(), "a-1")
		require.NoError(t, err)
		_, err = log.Pool.Exec(t.Context(), strings.ReplaceAll(change, "{{schema}}", log.Schema()))
		require.NoError(t, err)
		ignored = nil
		for _, id := range []eventstore.StreamID{"a-1", "a-2"} {
			found, err := loader.Load(t.Context(), id)
			require.NoError(t, err, name)
			require.Zero(t, found.Snapshot, name)
			require.Len(t, found.State.Texts, 10, name)
			require.Equal(t, "1:0", found.State.Texts[0], name)
		}
		require.Len(t, ignored, 1, name)
		found, err := loader.Load(t.Context(), "a-1")
		require.NoError(t, err)
		require.EqualValues(t, 10, found.Snapshot, "%s: a good one took its place", name)
		require.Equal(t, 1, found.Read)

		fold := diaryFold()
		fold.Version = 2
		found, err = newLoader(t, log, fold, config).Load(t.Context(), "a-1")
		require.NoError(t, err)
		require.Zero(t, found.Snapshot, "another fold version")
		fold = diaryFold()
		fold.Format = 2
		found, err = newLoader(t, log, fold, config).Load(t.Context(), "a-1")
		require.NoError(t, err)
		require.Zero(t, found.Snapshot, "another format")
	}
}

// Guarantee S1: after a restore from an older copy, another event may stand where a snapshot ends.
func TestASnapshotOfAnotherLogIsNotUsed(t *testing.T) {
	t.Parallel()
	one, other := newLog(t), newLog(t)
	ctx := t.Context()
	for _, log := range []*eventstoretest.Log{one, other} {
		write(t, log, "a-1", 4)
	}
	_, err := newLoader(t, one, diaryFold(), snapshot.Config{}).Snapshot(ctx, "a-1")
	require.NoError(t, err)
	_, err = one.Append(ctx, "a-1", eventstore.Any, note{"only here"})
	require.NoError(t, err)
	_, err = newLoader(t, one, diaryFold(), snapshot.Config{Every: 5}).Load(ctx, "a-1")
	require.NoError(t, err)
	require.Equal(t, []int64{4, 5}, versionsKept(t, one))
	rows, err := one.Pool.Query(ctx, `SELECT to_jsonb(s)::text FROM `+one.Schema()+`.snapshots s ORDER BY version DESC`)
	require.NoError(t, err)
	snapshots, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for i, reason := range []string{"longer than the stream", "of another event"} {
		_, err = other.Pool.Exec(ctx, strings.ReplaceAll(`INSERT INTO {{schema}}.snapshots SELECT * FROM jsonb_populate_record(NULL::{{schema}}.snapshots, $1::jsonb)`,
			"{{schema}}", other.Schema()), snapshots[i])
		require.NoError(t, err)
		var ignored []snapshot.Ignored
		found, err := newLoader(t, other, diaryFold(), snapshot.Config{Ignored: func(i snapshot.Ignored) { ignored = append(ignored, i) }}).Load(ctx, "a-1")
		require.NoError(t, err)
		require.Zero(t, found.Snapshot, reason)
		require.Equal(t, []string{"1:0", "2:1", "3:2", "4:3"}, found.State.Texts, reason)
		require.Len(t, ignored, 1, reason)
		require.Empty(t, versionsKept(t, other), reason)
	}
}

func versionsKept(t testing.TB, log *eventstoretest.Log) []int64 {
	t.Helper()
	rows, err := log.Pool.Query(t.Context(), `SELECT version FROM `+log.Schema()+`.snapshots ORDER BY version`)
	require.NoError(t, err)
	kept, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(t, err)
	return kept
}

// Guarantee S2: snapshots are left behind at every so many events, the newest are kept, and one that cannot be written
// disturbs nobody.
func TestSnapshotsAreWrittenAndGo(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := t.Context()
	loader := newLoader(t, log, diaryFold(), snapshot.Config{Every: 4, Keep: 3})
	for range 10 {
		write(t, log, "a-1", 5)
		_, err := loader.Load(ctx, "a-1")
		require.NoError(t, err)
	}
	require.Equal(t, []int64{40, 44, 48}, versionsKept(t, log))
	found, err := newLoader(t, log, diaryFold(), snapshot.Config{Every: 10, Keep: 100}).AsOf(ctx, "a-1", snapshot.At{Version: 35})
	require.NoError(t, err)
	require.Zero(t, found.Snapshot)
	require.Equal(t, []int64{10, 20, 30, 40, 44, 48}, versionsKept(t, log), "on the way of one long fold")
	found, err = loader.AsOf(ctx, "a-1", snapshot.At{Version: 35})
	require.NoError(t, err)
	require.EqualValues(t, 30, found.Snapshot)
	require.Equal(t, 6, found.Read, "the snapshot's own event and those after it")
	require.Equal(t, []int64{40, 44, 48}, versionsKept(t, log), "an earlier one does not take the place of the newest")

	_, err = log.Pool.Exec(ctx, `ALTER TABLE `+log.Schema()+`.snapshots ADD CHECK (version < 52)`)
	require.NoError(t, err)
	write(t, log, "a-1", 5)
	found, err = loader.Load(ctx, "a-1")
	require.NoError(t, err)
	require.Len(t, found.State.Texts, 55)
	_, err = loader.Snapshot(ctx, "a-1")
	require.Error(t, err, "on demand it is an error")
}

// A snapshot on demand, and one in the place of an old one.
func TestSnapshotsOnDemandAndByAge(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := t.Context()
	loader := newLoader(t, log, diaryFold(), snapshot.Config{OlderThan: time.Hour})
	write(t, log, "a-1", 3)
	_, err := loader.Snapshot(ctx, "a-1")
	require.NoError(t, err)
	require.Equal(t, []int64{3}, versionsKept(t, log))
	write(t, log, "a-1", 1)
	_, err = loader.Load(ctx, "a-1")
	require.NoError(t, err)
	require.Equal(t, []int64{3}, versionsKept(t, log), "it is young")
	_, err = log.Pool.Exec(ctx, `UPDATE `+log.Schema()+`.snapshots SET created_at = created_at - interval '61 minutes'`)
	require.NoError(t, err)
	for range 2 {
		found, err := loader.Load(ctx, "a-1")
		require.NoError(t, err)
		require.Len(t, found.State.Texts, 4)
	}
	require.Equal(t, []int64{3, 4}, versionsKept(t, log))
	_, err = loader.Snapshot(ctx, "nobody-1")
	require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
}

// Guarantee S1: whoever is slower never takes the newest snapshot away, nor puts an older state in its place.
func TestConcurrentLoadersNeverMoveASnapshotBackwards(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	write(t, log, "a-1", 10)
	group, ctx := errgroup.WithContext(ctx)
	const loads = 60
	for range 4 {
		loader := newLoader(t, log, diaryFold(), snapshot.Config{Every: 3, Keep: 2})
		group.Go(func() error {
			newest := eventstore.Version(0)
			for i := range loads {
				if _, err := log.Append(ctx, "a-1", eventstore.Any, note{"more"}); err != nil {
					return err
				}
				found, err := loader.Load(ctx, "a-1")
				if err != nil {
					return err
				}
				if found.Snapshot < newest || len(found.State.Texts) != int(found.Version) {
					return fmt.Errorf("load %d: snapshot %d after %d, %d texts at version %d", i, found.Snapshot, newest, len(found.State.Texts), found.Version)
				}
				newest = found.Snapshot
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	require.Equal(t, []int64{246, 249}, versionsKept(t, log)[len(versionsKept(t, log))-2:])
}

func TestLoadersThatAreRefused(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	for name, change := range map[string]func(*snapshot.Fold[diary], *snapshot.Config){
		"no name":        func(f *snapshot.Fold[diary], _ *snapshot.Config) { f.Name = "" },
		"no version":     func(f *snapshot.Fold[diary], _ *snapshot.Config) { f.Version = 0 },
		"no Apply":       func(f *snapshot.Fold[diary], _ *snapshot.Config) { f.Apply = nil },
		"negative Every": func(_ *snapshot.Fold[diary], c *snapshot.Config) { c.Every = -1 },
	} {
		fold, config := diaryFold(), snapshot.Config{}
		change(&fold, &config)
		_, err := snapshot.NewLoader(log.Store, fold, config)
		require.ErrorIs(t, err, eventstore.ErrInvalid, name)
	}
	_, err := newLoader(t, log, diaryFold(), snapshot.Config{}).AsOf(t.Context(), "a-1", snapshot.At{Version: -1})
	require.ErrorIs(t, err, eventstore.ErrInvalid)
}
