package replay_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/snapshot/replay"
)

type none = replay.Config[struct{}]

// Guarantee R1: by time, then by position; what occurred before its predecessor plays at that one's time.
func TestStreamsAreInterleavedByTime(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	write(t, log, "a-1", 0, 10, 5, 20)
	write(t, log, "b-1", 10, 7, 30)
	write(t, log, "a-1", 30)
	player := open(t, log, none{}, "b-1", "a-1")
	var steps []string
	for step, err := range player.Steps(t.Context()) {
		require.NoError(t, err)
		require.Equal(t, len(steps)+1, step.Number)
		steps = append(steps, fmt.Sprintf("%s at %v", name(step.Event), step.At.Sub(at(0)).Seconds()))
	}
	require.Equal(t, []string{
		"a-1/1 at 0", "a-1/2 at 10", "a-1/3 at 10", "b-1/1 at 10", "b-1/2 at 10", "a-1/4 at 20", "b-1/3 at 30", "a-1/5 at 30",
	}, steps)
	require.Equal(t, 8, player.Len())
	require.Equal(t, []string{"b-1/1", "b-1/2", "b-1/3"}, play(t, open(t, log, none{}, "b-1")))
}

// Guarantee R1, whether the player reads the log or the streams, and whatever else the log holds.
func TestTheOrderDoesNotDependOnHowItIsRead(t *testing.T) {
	t.Parallel()
	const streams, length = 12, 1000 // more than a player lets wait
	for shape, clock := range map[string]func(stream, version int) int{
		"as recorded":         func(_, v int) int { return v },
		"one after the other": func(s, v int) int { return s*length + v },
		"backwards":           func(s, v int) int { return (streams-s)*length + v },
		"out of order":        func(s, v int) int { return rand.New(rand.NewPCG(uint64(s), uint64(v))).IntN(length) },
	} {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			log := newLog(t)
			ids := make([]eventstore.StreamID, streams)
			for i := range ids {
				ids[i] = eventstore.StreamID(fmt.Sprintf("s-%02d", i))
			}
			const part = 250
			for from := 0; from < length; from += part {
				for i, id := range ids {
					seconds := make([]int, part)
					for v := range seconds {
						seconds[v] = clock(i, from+v)
					}
					write(t, log, id, seconds...)
				}
			}
			events := eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{}))
			want := ordered(events)
			player := open(t, log, none{}, ids...)
			walk(t, player, want, events)
			require.NoError(t, player.Rewind(t.Context()))
			require.Equal(t, want, play(t, player))
			require.Equal(t, want, play(t, open(t, log, none{}, ids...)))

			some := ids[3:5] // a sixth of the log, and too few events to read it for
			mine := slices.DeleteFunc(slices.Clone(events), func(e eventstore.Recorded) bool { return !slices.Contains(some, e.StreamID) })
			require.Equal(t, ordered(mine), play(t, open(t, log, none{}, some...)))
			some = ids[2:7] // less than half of it
			mine = slices.DeleteFunc(slices.Clone(events), func(e eventstore.Recorded) bool { return !slices.Contains(some, e.StreamID) })
			require.Equal(t, ordered(mine), play(t, open(t, log, none{}, some...)))
		})
	}
}

// walk goes here and there, and on to places where the player has not been.
func walk(t *testing.T, player *replay.Player[struct{}], want []string, events []eventstore.Recorded) {
	t.Helper()
	random := rand.New(rand.NewPCG(7, 8))
	for part := range 10 {
		e := events[random.IntN((part+1)*len(events)/10)]
		step, err := player.SeekVersion(t.Context(), e.StreamID, e.Version)
		require.NoError(t, err)
		require.Equal(t, e.ID, step.Event.ID)
		stands := step.Number
		for range 50 {
			move, by := player.Next, 1
			if random.IntN(2) == 0 {
				move, by = player.Back, -1
			}
			if stands+by < 1 || stands+by > len(want) {
				continue
			}
			step, err := move(t.Context())
			require.NoError(t, err)
			stands += by
			require.Equal(t, stands, step.Number)
			require.Equal(t, want[stands-1], name(step.Event))
		}
	}
}

// ordered is the order that a replay must have, by sorting.
func ordered(events []eventstore.Recorded) (names []string) {
	type timed struct {
		eventstore.Recorded
		at int64
	}
	all := make([]timed, len(events))
	latest := map[eventstore.StreamID]int64{}
	for i, e := range events { // in position order, so in version order
		latest[e.StreamID] = max(latest[e.StreamID], e.OccurredAt.UnixMicro())
		all[i] = timed{e, latest[e.StreamID]}
	}
	slices.SortStableFunc(all, func(a, b timed) int { return int(a.at - b.at) })
	for _, e := range all {
		names = append(names, name(e.Recorded))
	}
	return names
}

// Guarantee R2.
func TestALogThatGrowsEndsWhereItStood(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	write(t, log, "a-1", 0, 1)
	write(t, log, "b-1", 0, 2)
	player := open(t, log, none{}, "a-1", "b-1")
	write(t, log, "a-1", 1, 2)
	write(t, log, "c-1", 0)
	require.Equal(t, []string{"a-1/1", "b-1/1", "a-1/2", "b-1/2"}, play(t, player))
	_, err := player.Next(t.Context())
	require.ErrorIs(t, err, replay.ErrEnd)
	_, err = player.SeekVersion(t.Context(), "a-1", 3)
	require.ErrorIs(t, err, replay.ErrNoStep)
	require.Equal(t, 6, open(t, log, none{}, "a-1", "b-1").Len(), "a new player has them")
}

// Events that are not the player's do not matter: here they cannot even be decoded, by the codec that replays.
func TestForeignEventsDoNotMatter(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	const n = 4500 // enough for the log to be read rather than the stream
	write(t, log, "a-1", make([]int, 10)...)
	_, err := log.Append(t.Context(), "b-1", eventstore.NoStream, eventstore.Raw{Type: "foreign", JSON: []byte(`{}`)})
	require.NoError(t, err)
	write(t, log, "a-1", make([]int, n-10)...)
	played := play(t, open(t, log, none{}, "a-1"))
	require.Len(t, played, n)
	require.Equal(t, fmt.Sprint("a-1/", n), played[n-1])
	_, err = replay.Open(t.Context(), log.Store, none{}, "a-1", "b-1")
	require.ErrorIs(t, err, eventstore.ErrUnknownType, "the player's own do")
}

// An append that is not settled yet holds the log back, not a stream whose events are committed.
func TestUnsettledEventsArePlayed(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	tx, err := log.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = log.WithTx(tx).Append(t.Context(), "slow-1", eventstore.NoStream, note{})
	require.NoError(t, err)
	write(t, log, "a-1", make([]int, 4500)...)
	require.Empty(t, eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{})))
	require.Len(t, play(t, open(t, log, none{}, "a-1")), 4500)

	// In the transaction, which is the handler's too, its own events play as well.
	player, err := replay.Open(t.Context(), log.WithTx(tx), none{}, "a-1", "slow-1")
	require.NoError(t, err)
	steps := 0
	require.NoError(t, player.Play(t.Context(), func(ctx context.Context, _ replay.Step[struct{}]) error {
		if steps++; steps%500 != 0 {
			return nil
		}
		_, err := tx.Exec(ctx, `SELECT 1`)
		return err
	}))
	require.Equal(t, 4501, steps)
}

func TestPlayersThatAreRefused(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	write(t, log, "a-1", 0)
	fold := diaryFold()
	fold.New = nil
	for name, config := range map[string]replay.Config[*diary]{
		"a negative speed": {Speed: -1},
		"half a fold":      {Fold: fold},
	} {
		_, err := replay.Open(t.Context(), log.Store, config, "a-1")
		require.ErrorIs(t, err, eventstore.ErrInvalid, name)
	}
	for name, ids := range map[string][]eventstore.StreamID{"no stream": nil, "a stream twice": {"a-1", "b-1", "a-1"}, "a bad id": {"a"}} {
		_, err := replay.Open(t.Context(), log.Store, none{}, ids...)
		require.ErrorIs(t, err, eventstore.ErrInvalid, name)
	}
	_, err := replay.Open(t.Context(), log.Store, none{}, "a-1", "a-2")
	require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
	require.ErrorContains(t, err, "a-2")
	_, err = open(t, log, none{}, "a-1").SeekQuestion(t.Context(), "")
	require.ErrorIs(t, err, eventstore.ErrInvalid)
}
