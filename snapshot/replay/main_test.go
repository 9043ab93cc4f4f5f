package replay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/snapshot"
	"github.com/sight-platform/hindsight/snapshot/replay"
)

// note is the payload of these tests, diary a state that shows every event it was given.
type note struct {
	Text string `json:"text"`
}

type diary struct {
	Texts []string `json:"texts"`
}

func diaryFold() snapshot.Fold[*diary] {
	return snapshot.Fold[*diary]{
		New: func(eventstore.StreamID) *diary { return &diary{} },
		Apply: func(d *diary, e eventstore.Recorded) (*diary, error) {
			d.Texts = append(d.Texts, fmt.Sprintf("%d:%s", e.Version, e.Data.(note).Text))
			return d, nil
		},
	}
}

func discussionFold() snapshot.Fold[*focusgroup.Discussion] {
	return snapshot.Fold[*focusgroup.Discussion]{
		New: func(eventstore.StreamID) *focusgroup.Discussion { return &focusgroup.Discussion{} },
		Apply: func(d *focusgroup.Discussion, e eventstore.Recorded) (*focusgroup.Discussion, error) {
			return d, d.Apply(e)
		},
	}
}

func newLog(t testing.TB) *eventstoretest.Log {
	t.Helper()
	codec, err := eventstore.NewCodec(eventstore.Type[note]("note"))
	require.NoError(t, err)
	return eventstoretest.New(t, eventstore.Config{Codec: codec})
}

func open[S any](t testing.TB, log *eventstoretest.Log, config replay.Config[S], ids ...eventstore.StreamID) *replay.Player[S] {
	t.Helper()
	player, err := replay.Open(t.Context(), log.Store, config, ids...)
	require.NoError(t, err)
	return player
}

// at is a time of the discussions here.
func at(seconds int) time.Time {
	return time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC).Add(time.Duration(seconds) * time.Second)
}

// write appends an event for each time.
func write(t testing.TB, log *eventstoretest.Log, id eventstore.StreamID, seconds ...int) {
	t.Helper()
	for part := range slices.Chunk(seconds, eventstore.MaxEventsPerAppend) {
		events := make([]any, len(part))
		for i, s := range part {
			events[i] = eventstore.Event{Data: note{fmt.Sprint("at ", s)}, OccurredAt: at(s)}
		}
		_, err := log.Append(t.Context(), id, eventstore.Any, events...)
		require.NoError(t, err)
	}
}

func name(e eventstore.Recorded) string { return fmt.Sprintf("%s/%d", e.StreamID, e.Version) }

// play plays to the end and returns the names of what was played.
func play[S any](t testing.TB, player *replay.Player[S]) (names []string) {
	t.Helper()
	require.NoError(t, player.Play(t.Context(), func(_ context.Context, step replay.Step[S]) error {
		names = append(names, name(step.Event))
		return nil
	}))
	return names
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	require.NoError(t, err)
	return string(data)
}
