package snapshot_test

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/corpus"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
	"github.com/sight-platform/hindsight/snapshot"
)

func discussionFold() snapshot.Fold[*focusgroup.Discussion] {
	return snapshot.Fold[*focusgroup.Discussion]{
		Name: "discussion", Version: 1,
		New: func(eventstore.StreamID) *focusgroup.Discussion { return &focusgroup.Discussion{} },
		Apply: func(d *focusgroup.Discussion, e eventstore.Recorded) (*focusgroup.Discussion, error) {
			return d, d.Apply(e)
		},
	}
}

// Guarantee S1 on real discussions: the state as of a random version, position, occurred time, or both of position and time,
// is the fold from zero of the events that lie within it, and the snapshots that were left on the way shorten it.
func TestAsOfOnRealRecordings(t *testing.T) {
	t.Parallel()
	corpustest.EachRecording(t, asOfOnRecording)
}

func asOfOnRecording(t *testing.T, path string) {
	t.Parallel()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	log := eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
	ctx := t.Context()
	require.NoError(t, snapshot.Migrate(ctx, log.Store))
	_, err = focusgroup.Import(ctx, log.Store, corpus.Read(file))
	require.NoError(t, err)
	loader, err := snapshot.NewLoader(log.Store, discussionFold(), snapshot.Config{Every: 50})
	require.NoError(t, err)
	streams := map[eventstore.StreamID][]eventstore.Recorded{}
	for event, err := range log.All(ctx, 0, eventstore.Filter{}) {
		require.NoError(t, err)
		streams[event.StreamID] = append(streams[event.StreamID], event)
	}
	random := rand.New(rand.NewPCG(3, 4))
	used, asked := 0, 0
	for _, id := range slices.Sorted(maps.Keys(streams)) {
		events := streams[id]
		now, err := loader.Load(ctx, id)
		require.NoError(t, err)
		require.EqualValues(t, len(events), now.Version)
		for range max(1, 60/len(streams)) {
			n := random.IntN(len(events))
			last, other := events[n], events[random.IntN(len(events))]
			for at, holds := range map[snapshot.At]func(eventstore.Recorded) bool{
				{Version: last.Version}:     func(e eventstore.Recorded) bool { return e.Version <= last.Version },
				{Position: last.Position}:   func(e eventstore.Recorded) bool { return e.Version <= last.Version },
				{Recorded: last.RecordedAt}: func(e eventstore.Recorded) bool { return !e.RecordedAt.After(last.RecordedAt) }, // many are of one time: an import is
				{Occurred: last.OccurredAt}: func(e eventstore.Recorded) bool { return !e.OccurredAt.After(last.OccurredAt) },
				{Position: last.Position, Occurred: other.OccurredAt}: func(e eventstore.Recorded) bool {
					return e.Version <= last.Version && !e.OccurredAt.After(other.OccurredAt)
				},
			} {
				found, err := loader.AsOf(ctx, id, at)
				require.NoError(t, err)
				require.Equal(t, inJSON(t, foldOf(t, id, events, holds)), inJSON(t, found.State), "%s at %+v", id, at)
				asked++
				if found.Snapshot > 0 {
					used++
				}
			}
		}
	}
	require.Greater(t, used, asked/2)
	t.Logf("%d discussions, %d answers, %d of them from a snapshot", len(streams), asked, used)
}

func foldOf(t *testing.T, id eventstore.StreamID, events []eventstore.Recorded, holds func(eventstore.Recorded) bool) *focusgroup.Discussion {
	t.Helper()
	state := discussionFold().New(id)
	for _, e := range events {
		if holds(e) {
			require.NoError(t, state.Apply(e))
		}
	}
	return state
}

func inJSON(t *testing.T, state any) string {
	t.Helper()
	text, err := json.Marshal(state)
	require.NoError(t, err)
	return string(text)
}
