package replay_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/corpus"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
	"github.com/sight-platform/hindsight/snapshot"
	"github.com/sight-platform/hindsight/snapshot/replay"
)

func TestSteppingToBothEnds(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := t.Context()
	write(t, log, "a-1", 0, 1, 2)
	player := open(t, log, replay.Config[*diary]{Fold: diaryFold()}, "a-1")
	_, err := player.Back(ctx)
	require.ErrorIs(t, err, replay.ErrStart)
	for v := 1; v <= 3; v++ {
		step, err := player.Next(ctx)
		require.NoError(t, err)
		require.EqualValues(t, v, step.Event.Version)
		require.Len(t, step.State.Texts, v)
	}
	for range 2 {
		_, err = player.Next(ctx)
		require.ErrorIs(t, err, replay.ErrEnd)
	}
	for v := 2; v >= 1; v-- {
		step, err := player.Back(ctx)
		require.NoError(t, err)
		require.EqualValues(t, v, step.Event.Version)
		require.Len(t, step.State.Texts, v)
	}
	_, err = player.Back(ctx)
	require.ErrorIs(t, err, replay.ErrStart)
	step, err := player.Next(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, step.Number)
	changes, err := step.Changes()
	require.NoError(t, err)
	require.Len(t, changes, 1)
	require.Equal(t, "/texts", changes[0].Path)
	require.NoError(t, player.Rewind(ctx))
	require.Len(t, play(t, player), 3)
	plain, err := open(t, log, none{}, "a-1").Next(ctx)
	require.NoError(t, err)
	changes, err = plain.Changes()
	require.NoError(t, err)
	require.Empty(t, changes, "no fold")
}

func TestSeeking(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := t.Context()
	write(t, log, "a-1", 0, 10, 20)
	write(t, log, "b-1", 15, 10)
	player := open(t, log, replay.Config[*diary]{
		Fold: diaryFold(), Question: func(e eventstore.Recorded) string { return e.Data.(note).Text },
	}, "a-1", "b-1")
	for _, c := range []struct {
		seek  func() (replay.Step[*diary], error)
		finds string
		next  string
	}{
		{func() (replay.Step[*diary], error) { return player.SeekVersion(ctx, "b-1", 2) }, "b-1/2", "a-1/3"},
		{func() (replay.Step[*diary], error) { return player.SeekVersion(ctx, "a-1", 1) }, "a-1/1", "a-1/2"},
		{func() (replay.Step[*diary], error) { return player.SeekTime(ctx, at(15)) }, "b-1/2", "a-1/3"},
		{func() (replay.Step[*diary], error) { return player.SeekTime(ctx, at(14)) }, "a-1/2", "b-1/1"},
		{func() (replay.Step[*diary], error) { return player.SeekQuestion(ctx, "at 10") }, "a-1/2", "b-1/1"},
		{func() (replay.Step[*diary], error) { return player.SeekQuestion(ctx, "at 20") }, "a-1/3", ""},
		{func() (replay.Step[*diary], error) { return player.SeekTime(ctx, at(99)) }, "a-1/3", ""},
	} {
		step, err := c.seek()
		require.NoError(t, err)
		require.Equal(t, c.finds, name(step.Event))
		require.Len(t, step.State.Texts, int(step.Event.Version))
		step, err = player.Next(ctx)
		if c.next == "" {
			require.ErrorIs(t, err, replay.ErrEnd)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.next, name(step.Event))
	}
	for _, id := range []eventstore.StreamID{"a-1", "c-1"} {
		for _, version := range []eventstore.Version{-1, 0, 4} {
			_, err := player.SeekVersion(ctx, id, version)
			require.ErrorIs(t, err, replay.ErrNoStep)
		}
	}
	_, err := player.SeekQuestion(ctx, "at 99")
	require.ErrorIs(t, err, replay.ErrNoStep)
	_, err = player.Next(ctx)
	require.ErrorIs(t, err, replay.ErrEnd, "what was not found did not move the player")
	_, err = player.SeekTime(ctx, at(-1))
	require.ErrorIs(t, err, replay.ErrStart)
	step, err := player.Next(ctx)
	require.NoError(t, err)
	require.Equal(t, "a-1/1", name(step.Event))
}

// Guarantee R3: an Apply that fails, half done, leaves no trace.
func TestAFailingApplyLeavesNoTrace(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := t.Context()
	write(t, log, "a-1", 0, 1, 2)
	fold, fails := diaryFold(), true
	apply := fold.Apply
	boom := errors.New("boom")
	fold.Apply = func(d *diary, e eventstore.Recorded) (*diary, error) {
		d, err := apply(d, e)
		if fails && e.Version == 2 {
			return d, boom
		}
		return d, err
	}
	player := open(t, log, replay.Config[*diary]{Fold: fold}, "a-1")
	err := player.Play(ctx, func(context.Context, replay.Step[*diary]) error { return nil })
	require.ErrorIs(t, err, boom)
	require.ErrorContains(t, err, "a-1 version 2 (note)")
	_, err = player.SeekVersion(ctx, "a-1", 3)
	require.ErrorIs(t, err, boom)
	fails = false
	step, err := player.Next(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"1:at 0", "2:at 1"}, step.State.Texts)
}

// recorded imports a file of the corpus.
func recorded(t testing.TB, file string) *eventstoretest.Log {
	t.Helper()
	f, err := os.Open(filepath.Join(corpustest.Recordings(t), file))
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	log := eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
	_, err = focusgroup.Import(t.Context(), log.Store, corpus.Read(f))
	require.NoError(t, err)
	return log
}

// Guarantee R3 on real discussions: wherever a random walk goes, the state is the fold from zero, and the changes are what the
// event made of the one before.
func TestEveryStateIsTheFoldFromZero(t *testing.T) {
	t.Parallel()
	log := recorded(t, "qmsum_committee_val.ndjson.gz")
	ctx := t.Context()
	fold := discussionFold()
	states := map[eventstore.StreamID][]string{} // by version
	var ids []eventstore.StreamID
	var events []eventstore.Recorded
	live := map[eventstore.StreamID]*focusgroup.Discussion{}
	for e, err := range log.All(ctx, 0, eventstore.Filter{}) {
		require.NoError(t, err)
		if live[e.StreamID] == nil {
			ids = append(ids, e.StreamID)
			live[e.StreamID] = fold.New(e.StreamID)
			states[e.StreamID] = []string{asJSON(t, live[e.StreamID])}
		}
		require.NoError(t, live[e.StreamID].Apply(e))
		states[e.StreamID] = append(states[e.StreamID], asJSON(t, live[e.StreamID]))
		events = append(events, e)
	}
	order := ordered(events)
	require.Greater(t, len(order), 1000)
	player := open(t, log, replay.Config[*focusgroup.Discussion]{Fold: fold}, ids...)
	random := rand.New(rand.NewPCG(5, 6))
	stands := 0 // as the player should
	for range 3000 {
		var step replay.Step[*focusgroup.Discussion]
		var err error
		e := events[random.IntN(len(events))]
		switch n := random.IntN(100); {
		case n < 60:
			step, err = player.Next(ctx)
			stands++
		case n < 90:
			step, err = player.Back(ctx)
			stands--
		case n < 94:
			step, err = player.SeekVersion(ctx, e.StreamID, e.Version)
			require.Equal(t, name(e), name(step.Event))
			stands = step.Number
		case n < 98:
			step, err = player.SeekTime(ctx, e.OccurredAt)
			require.False(t, step.At.After(e.OccurredAt))
			stands = step.Number
		default:
			step, err = player.SeekQuestion(ctx, random1(random, questions(events)))
			stands = step.Number
		}
		if stands < 1 || stands > len(order) {
			require.Error(t, err)
			stands = max(0, min(stands, len(order)))
			continue
		}
		require.NoError(t, err)
		require.Equal(t, order[stands-1], name(step.Event))
		all := states[step.Event.StreamID]
		require.Equal(t, all[step.Event.Version], asJSON(t, step.State), name(step.Event))
		if random.IntN(20) == 0 {
			changes, err := step.Changes()
			require.NoError(t, err)
			want, err := snapshot.DiffJSON([]byte(all[step.Event.Version-1]), []byte(all[step.Event.Version]))
			require.NoError(t, err)
			require.NotEmpty(t, want)
			require.Equal(t, want, changes)
		}
	}
}

func random1(random *rand.Rand, from []string) string { return from[random.IntN(len(from))] }

func questions(events []eventstore.Recorded) (texts []string) {
	for _, e := range events {
		if turn, ok := e.Data.(focusgroup.Response); ok && turn.Question != "" {
			texts = append(texts, turn.Question)
		}
		if len(texts) == 50 {
			break
		}
	}
	if len(texts) == 0 {
		panic("a corpus without questions")
	}
	return texts
}

// A question is found where the discussion's state says that it was asked.
func TestSeekQuestionOnRealRecordings(t *testing.T) {
	t.Parallel()
	log := recorded(t, "qmsum_ami_val.ndjson.gz")
	ctx := t.Context()
	asked := 0
	for e, err := range log.All(ctx, 0, eventstore.Filter{Types: []string{focusgroup.TypeDiscussionStarted}}) {
		require.NoError(t, err)
		d, err := focusgroup.Load(ctx, log.Store, e.StreamID)
		require.NoError(t, err)
		player := open(t, log, none{}, e.StreamID)
		for _, q := range d.Questions[:min(len(d.Questions), 3)] {
			if q.AskedIn == 0 {
				continue
			}
			step, err := player.SeekQuestion(ctx, q.Text)
			require.NoError(t, err)
			require.Equal(t, q.AskedIn, step.Event.Version, q.Text)
			require.WithinDuration(t, q.AskedAt, step.Event.OccurredAt, 0)
			asked++
		}
		_, err = player.SeekQuestion(ctx, "What was never asked?")
		require.ErrorIs(t, err, replay.ErrNoStep)
	}
	require.Positive(t, asked)
	t.Logf("%d questions", asked)
}
