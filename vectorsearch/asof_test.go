package vectorsearch_test

import (
	"iter"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/corpus"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
	"github.com/sight-platform/hindsight/vectorsearch"
)

// Guarantee V3: a search as of a position is that of a copy of the log cut there, to the score; by meaning, words and both, with
// filters and without.
func TestAnEarlierSearchIsThatOfACutLog(t *testing.T) {
	t.Parallel()
	t.Run("the demo's recordings", func(t *testing.T) {
		t.Parallel()
		log := withoutDictionary(t, newLog(t)) // the cut log does not know yet that some will speak Polish
		importDemo(t, log, "checkout-en.ndjson")
		importDemo(t, log, "opakowania-pl.ndjson")
		requireAsOf(t, log, "paying at the checkout", "kolory opakowań", "thank you")
	})
	t.Run("a committee", func(t *testing.T) {
		t.Parallel()
		log := newLog(t)
		file, err := os.Open(filepath.Join(corpustest.Recordings(t), "qmsum_committee_val.ndjson.gz"))
		require.NoError(t, err)
		defer func() { require.NoError(t, file.Close()) }()
		_, err = focusgroup.Import(t.Context(), withoutDictionary(t, log).Store, corpus.Read(file))
		require.NoError(t, err)
		requireAsOf(t, log, "the budget for schools next year", "What do the members think about language?", "thank you chair")
	})
}

func requireAsOf(t *testing.T, log *eventstoretest.Log, asked ...string) {
	t.Helper()
	var events []eventstore.Recorded
	for e, err := range log.All(t.Context(), 0, eventstore.Filter{}) {
		require.NoError(t, err)
		events = append(events, e)
	}
	index := newIndex(t, log, vectorsearch.Config{})
	advance(t, log, index)
	for _, share := range []float64{0.02, 0.4, 0.83} {
		cut := events[:int(share*float64(len(events)))]
		at := cut[len(cut)-1].Position
		copied := withoutDictionary(t, cutLog(t, cut))
		early := newIndex(t, copied, vectorsearch.Config{})
		advance(t, copied, early)
		for _, ranking := range []vectorsearch.Ranking{vectorsearch.ByMeaning, vectorsearch.ByWords, vectorsearch.Hybrid} {
			for _, text := range asked {
				for name, filter := range map[string]vectorsearch.Filter{
					"none": {}, "discussion": {Discussions: []eventstore.StreamID{cut[len(cut)/2].StreamID}}, "type": {Types: []string{focusgroup.TypeFollowup}},
				} {
					query := vectorsearch.Query{Text: text, Ranking: ranking, Filter: filter, K: 25, Context: 2}
					want, err := early.Search(t.Context(), query)
					require.NoError(t, err)
					query.AsOf = at
					got, err := index.Search(t.Context(), query)
					require.NoError(t, err)
					require.True(t, got.Complete)
					require.Equal(t, at, got.AsOf)
					require.Equal(t, want.Candidates, got.Candidates)
					requireSameHits(t, want.Hits, got.Hits, "%.2f %s %q %s", share, ranking, text, name)
				}
			}
		}
	}
}

func requireSameHits(t *testing.T, want, got []vectorsearch.Hit, msg ...any) {
	t.Helper()
	require.Len(t, got, len(want), msg...)
	for i := range want {
		require.InDelta(t, want[i].Score, got[i].Score, 1e-9, msg...) // sums of floats in another order
		w, g := want[i], got[i]
		w.Score, g.Score, w.Words, g.Words, w.Similarity, g.Similarity = 0, 0, nil, nil, nil, nil
		require.Equal(t, w, g, msg...)
	}
}

// cutLog is a log of its own that holds the same events at the same positions.
func cutLog(t *testing.T, events []eventstore.Recorded) *eventstoretest.Log {
	t.Helper()
	log := newLog(t)
	source := func(string) iter.Seq2[eventstore.Imported, error] {
		return func(yield func(eventstore.Imported, error) bool) {
			for _, e := range events {
				if !yield(eventstore.Imported{
					StreamID: e.StreamID, Version: e.Version, RecordedAt: e.RecordedAt, Position: e.Position,
					Event: eventstore.Event{
						ID: e.ID, OccurredAt: e.OccurredAt, Metadata: e.Metadata,
						Data: eventstore.Raw{Type: e.Type, SchemaVersion: e.SchemaVersion, JSON: e.JSON},
					},
				}, nil) {
					return
				}
			}
		}
	}
	_, err := log.Import(t.Context(), source, eventstore.ImportConfig{KeepPositions: true})
	require.NoError(t, err)
	return log
}
