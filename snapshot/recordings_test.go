package snapshot_test

import (
	"fmt"
	"iter"
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

// Guarantee S1 on real discussions: what was said up to a random point is the fold of the events up to there.
func TestAsOfOnRealRecordings(t *testing.T) {
	t.Parallel()
	file, err := os.Open(filepath.Join(corpustest.Recordings(t), "qmsum_committee_val.ndjson.gz"))
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
	for id, events := range streams {
		for _, part := range []int{len(events) / 3, len(events) / 2, len(events)} { // snapshots on the way
			_, err := loader.AsOf(ctx, id, snapshot.At{Version: eventstore.Version(part)})
			require.NoError(t, err)
		}
		_, err := loader.Load(ctx, id)
		require.NoError(t, err)
		for range 6 {
			n := 1 + random.IntN(len(events))
			want, err := focusgroup.Fold(eachOf(events[:n]))
			require.NoError(t, err)
			for _, at := range []snapshot.At{{Version: eventstore.Version(n)}, {Position: events[n-1].Position}} {
				found, err := loader.AsOf(ctx, id, at)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", found.State), "%s at %+v", id, at)
				asked++
				if found.Snapshot > 0 {
					used++
				}
			}
		}
		now, err := loader.Load(ctx, id)
		require.NoError(t, err)
		whole, err := focusgroup.Load(ctx, log.Store, id)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("%+v", whole), fmt.Sprintf("%+v", now.State))
		require.EqualValues(t, len(events), now.Snapshot)
	}
	require.Positive(t, used)
	t.Logf("%d discussions, %d answers, %d of them from a snapshot", len(streams), asked, used)
}

func eachOf(events []eventstore.Recorded) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for _, e := range events {
			if !yield(e, nil) {
				return
			}
		}
	}
}
