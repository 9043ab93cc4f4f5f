package replay_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/snapshot/replay"
	"github.com/sight-platform/hindsight/snapshot/replay/replaytest"
)

// waitFor bounds what should come at once.
const waitFor = time.Minute

func noon() time.Time { return time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC) }

// times plays to the end and returns at which second of the clock each event came.
func times(t testing.TB, player *replay.Player[struct{}], clock *replaytest.Clock, on func(replay.Step[struct{}])) (seconds []float64) {
	t.Helper()
	for step, err := range player.Steps(t.Context()) {
		require.NoError(t, err)
		seconds = append(seconds, clock.Now().Sub(noon()).Seconds())
		if on != nil {
			on(step)
		}
	}
	return seconds
}

// Guarantee R4 on a real discussion of more than an hour: each event at its exact time, in no time.
func TestPacedReplayIsExact(t *testing.T) {
	t.Parallel()
	log := recorded(t, "qmsum_committee_val.ndjson.gz")
	streams := map[eventstore.StreamID][]eventstore.Recorded{}
	var longest time.Duration
	var id eventstore.StreamID
	for e, err := range log.All(t.Context(), 0, eventstore.Filter{}) {
		require.NoError(t, err)
		streams[e.StreamID] = append(streams[e.StreamID], e)
		if lasts := e.OccurredAt.Sub(streams[e.StreamID][0].OccurredAt); lasts > longest {
			longest, id = lasts, e.StreamID
		}
	}
	events := streams[id]
	require.Greater(t, longest, time.Hour)
	for _, speed := range []float64{1, 10, 0.5} {
		clock := replaytest.NewClock(noon())
		player := open(t, log, none{Speed: speed, Clock: clock}, id)
		latest, n := events[0].OccurredAt, 0
		for step, err := range player.Steps(t.Context()) {
			require.NoError(t, err)
			if events[n].OccurredAt.After(latest) {
				latest = events[n].OccurredAt
			}
			require.Equal(t, events[n].ID, step.Event.ID)
			require.Equal(t, latest, step.At)
			gone := time.Duration(float64(latest.Sub(events[0].OccurredAt)) / speed)
			require.Equal(t, noon().Add(gone), clock.Now(), "event %d at speed %v", n+1, speed)
			n++
		}
		require.Len(t, events, n)
		require.Equal(t, noon().Add(time.Duration(float64(longest)/speed)), clock.Now())
	}
}

// Guarantee R4: a handler that was slow is caught up with; nothing is shifted.
func TestASlowHandlerDelaysOnlyWhatFellDueMeanwhile(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	write(t, log, "a-1", 0, 10, 20, 40)
	clock := replaytest.NewClock(noon())
	got := times(t, open(t, log, none{Speed: 1, Clock: clock}, "a-1"), clock, func(step replay.Step[struct{}]) {
		if step.Number == 1 {
			clock.Advance(25 * time.Second)
		}
	})
	require.Equal(t, []float64{0, 25, 25, 40}, got)
}

// Guarantee R4: a pause of five seconds shifts the rest by five, and changes nothing else.
func TestAPauseShiftsTheRest(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	write(t, log, "a-1", 0, 10, 20, 40)
	write(t, log, "b-1", 15)
	var order [][]string
	for _, pause := range []time.Duration{0, 5 * time.Second} {
		clock := replaytest.NewClock(noon())
		player := open(t, log, none{Speed: 2, Clock: clock}, "a-1", "b-1")
		var names []string
		resumed := make(chan struct{})
		got := times(t, player, clock, func(step replay.Step[struct{}]) {
			names = append(names, name(step.Event))
			if step.Number == 2 {
				player.Pause()
				player.Pause() // is one
				clock.Advance(pause)
				go func() {
					defer close(resumed)
					player.Resume()
					player.Resume()
				}()
			}
		})
		<-resumed
		p := pause.Seconds()
		require.Equal(t, []float64{0, 5, 7.5 + p, 10 + p, 20 + p}, got)
		order = append(order, names)
	}
	require.Equal(t, order[0], order[1])
}

// stuckClock does not move; it says what is waited for.
type stuckClock struct{ waits chan time.Duration }

func newStuckClock() stuckClock { return stuckClock{waits: make(chan time.Duration)} }

func (c stuckClock) Now() time.Time { return noon() }

func (c stuckClock) Timer(d time.Duration) (<-chan time.Time, func()) {
	c.waits <- d
	return nil, func() {}
}

func (c stuckClock) wait(t testing.TB) time.Duration {
	t.Helper()
	select {
	case d := <-c.waits:
		return d
	case <-time.After(waitFor):
		t.Fatal("nobody waits")
		return 0
	}
}

// start plays in a goroutine of its own; what it returns gives the error.
func start(ctx context.Context, player *replay.Player[struct{}]) func(testing.TB) error {
	done := make(chan error, 1)
	go func() {
		done <- player.Play(ctx, func(context.Context, replay.Step[struct{}]) error { return nil })
	}()
	return func(t testing.TB) error {
		t.Helper()
		select {
		case err := <-done:
			return err
		case <-time.After(waitFor):
			t.Fatal("it plays on")
			return nil
		}
	}
}

func TestWaitsEndWithTheContextAndWithEachMove(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	write(t, log, "a-1", 0, 10, 30, 70, 150)
	clock := newStuckClock()
	player := open(t, log, none{Speed: 1, Clock: clock}, "a-1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := start(ctx, player)
	require.Equal(t, 10*time.Second, clock.wait(t))
	_, err := player.SeekVersion(t.Context(), "a-1", 3)
	require.NoError(t, err)
	require.Equal(t, 40*time.Second, clock.wait(t))
	step, err := player.Back(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, step.Event.Version)
	require.Equal(t, 20*time.Second, clock.wait(t))
	_, err = player.SeekTime(t.Context(), at(60))
	require.NoError(t, err)
	require.Equal(t, 10*time.Second, clock.wait(t))
	player.Pause()
	player.Resume()
	require.Equal(t, 10*time.Second, clock.wait(t))
	cancel()
	require.ErrorIs(t, ended(t), context.Canceled)

	ctx, cancel = context.WithCancel(t.Context())
	player.Pause()
	ended = start(ctx, player)
	cancel()
	require.ErrorIs(t, ended(t), context.Canceled, "in a pause")
	step, err = player.Next(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 4, step.Event.Version)
}

// What is sought in a pause is where playing goes on, with the gap that the discussion has there.
func TestSeekWhilePaused(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	write(t, log, "a-1", 0, 10, 30, 70, 150)
	clock := replaytest.NewClock(noon())
	player := open(t, log, none{Speed: 1, Clock: clock}, "a-1")
	paused, moved := make(chan struct{}), make(chan error, 1)
	go func() {
		<-paused
		clock.Advance(3 * time.Second)
		_, err := player.SeekVersion(context.WithoutCancel(t.Context()), "a-1", 4)
		clock.Advance(2 * time.Second)
		player.Resume()
		moved <- err
	}()
	var names []string
	got := times(t, player, clock, func(step replay.Step[struct{}]) {
		names = append(names, name(step.Event))
		if step.Number == 2 {
			player.Pause()
			close(paused)
		}
	})
	require.NoError(t, <-moved)
	require.Equal(t, []string{"a-1/1", "a-1/2", "a-1/5"}, names)
	require.Equal(t, []float64{0, 10, 10 + 5 + 80}, got)
}

func TestBreakpointsAndHandlersThatFail(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := t.Context()
	write(t, log, "a-1", 0, 10, 20, 30)
	clock := replaytest.NewClock(noon())
	player := open(t, log, replay.Config[*diary]{
		Fold: diaryFold(), Speed: 1, Clock: clock,
		Break: func(step replay.Step[*diary]) bool { return len(step.State.Texts) == 2 },
	}, "a-1")
	var names []string
	boom := errors.New("boom")
	handle := func(_ context.Context, step replay.Step[*diary]) error {
		names = append(names, name(step.Event))
		if step.Number == 3 {
			return boom
		}
		return nil
	}
	require.ErrorIs(t, player.Play(ctx, handle), replay.ErrBreak)
	require.Equal(t, []string{"a-1/1", "a-1/2"}, names)
	clock.Advance(time.Hour) // between two Plays nothing falls due
	resumed := clock.Now()
	err := player.Play(ctx, handle)
	require.ErrorIs(t, err, boom)
	require.ErrorContains(t, err, "replaying a-1 version 3 (note): boom")
	require.Equal(t, resumed.Add(10*time.Second), clock.Now())
	require.NoError(t, player.Play(ctx, handle))
	require.Equal(t, []string{"a-1/1", "a-1/2", "a-1/3", "a-1/4"}, names)
	require.Equal(t, resumed.Add(20*time.Second), clock.Now())
	require.NoError(t, player.Play(ctx, handle), "nothing is left")
}

// A loop that is left stands after its last step.
func TestALoopThatIsLeft(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	write(t, log, "a-1", 0, 1, 2)
	player := open(t, log, none{}, "a-1")
	for step, err := range player.Steps(t.Context()) {
		require.NoError(t, err)
		if step.Number == 2 {
			break
		}
	}
	require.Equal(t, []string{"a-1/3"}, play(t, player))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, player.Rewind(t.Context()))
	for _, err := range player.Steps(ctx) {
		require.ErrorIs(t, err, context.Canceled)
	}
	_, err := player.Next(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestProgressIsToldNowAndThenAndAtTheEnd(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	write(t, log, "a-1", 0, 1, 1, 1, 1, 2)
	var told []replay.Progress
	clock := replaytest.NewClock(noon())
	player := open(t, log, none{Speed: 20, Clock: clock, Progress: func(p replay.Progress) { told = append(told, p) }}, "a-1")
	times(t, player, clock, nil)
	require.Equal(t, []replay.Progress{{Done: 6, Total: 6, Elapsed: 100 * time.Millisecond}}, told)
	told = nil
	player = open(t, log, none{Speed: 1, Clock: clock, Progress: func(p replay.Progress) { told = append(told, p) }}, "a-1")
	times(t, player, clock, nil)
	require.Equal(t, []replay.Progress{
		{Done: 2, Total: 6, Elapsed: time.Second}, {Done: 6, Total: 6, Elapsed: 2 * time.Second},
	}, told)
	told = nil
	require.NoError(t, player.Rewind(t.Context()))
	for step, err := range player.Steps(t.Context()) {
		require.NoError(t, err)
		if step.Number == 3 {
			break
		}
	}
	require.Equal(t, []replay.Progress{{Done: 2, Total: 6, Elapsed: time.Second}}, told, "a step that was left is not done")
}

// Everything at once, for the race detector: each step that is taken goes to one caller, and the player stays whole.
func TestMovesFromManyGoroutines(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	write(t, log, "a-1", make([]int, 150)...)
	write(t, log, "b-1", make([]int, 150)...)
	clock := replaytest.NewClock(noon())
	player := open(t, log, replay.Config[*diary]{Fold: diaryFold(), Speed: 1, Clock: clock}, "a-1", "b-1")
	ctx := t.Context()
	var others sync.WaitGroup
	for i := range 4 {
		others.Go(func() {
			for n := range 50 {
				var err error
				switch (i + n) % 5 {
				case 0:
					_, err = player.Next(ctx)
				case 1:
					_, err = player.Back(ctx)
				case 2:
					_, err = player.SeekVersion(ctx, "b-1", eventstore.Version(1+n))
				case 3:
					player.Pause()
					_, err = player.SeekTime(ctx, at(0))
				default:
					player.Resume()
					err = player.Rewind(ctx)
				}
				if err != nil && !errors.Is(err, replay.ErrEnd) && !errors.Is(err, replay.ErrStart) {
					t.Error(err)
				}
			}
			player.Resume()
		})
	}
	require.NoError(t, player.Play(ctx, func(context.Context, replay.Step[*diary]) error { return nil }))
	others.Wait()
	require.NoError(t, player.Rewind(ctx))
	player.Resume()
	names := []string{}
	for step, err := range player.Steps(ctx) {
		require.NoError(t, err)
		require.Len(t, step.State.Texts, int(step.Event.Version))
		names = append(names, name(step.Event))
	}
	require.Equal(t, ordered(slices.Concat(
		eventstoretest.Collect(t, log.Stream(ctx, "a-1", 0)), eventstoretest.Collect(t, log.Stream(ctx, "b-1", 0)))), names)
}
