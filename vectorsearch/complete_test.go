package vectorsearch_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/clustered"
	"github.com/sight-platform/hindsight/vectorsearch"
)

// Guarantee V4: an answer is complete as far as the index has come, and not beyond.
func TestAnIndexThatLagsIsNotComplete(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	say(t, log, "discussion-1", "p", "anna", "one", "two")
	index := newIndex(t, log, vectorsearch.Config{})
	advance(t, log, index)
	settled, err := log.Settled(t.Context())
	require.NoError(t, err)
	say(t, log, "discussion-1", "p", "anna", "three")
	for name, want := range map[string]struct {
		query    vectorsearch.Query
		complete bool
	}{
		"as far as it has come": {vectorsearch.Query{}, true},
		"its own position":      {vectorsearch.Query{AsOf: settled}, true},
		"the next one":          {vectorsearch.Query{AsOf: settled + 1}, false},
		"any position":          {vectorsearch.Query{AsOf: 1 << 40}, false},
		"a time past the lag":   {vectorsearch.Query{AsOfTime: time.Now().Add(time.Hour)}, false},
		"a time before it all":  {vectorsearch.Query{AsOfTime: time.Now().Add(-time.Hour)}, true},
	} {
		for _, ranking := range []vectorsearch.Ranking{vectorsearch.ByMeaning, vectorsearch.ByWords, vectorsearch.Hybrid} {
			want.query.Text, want.query.Ranking = "two", ranking
			answer, err := index.Search(t.Context(), want.query)
			require.NoError(t, err, name)
			require.Equal(t, want.complete, answer.Complete, "%s, %s", name, ranking)
			require.LessOrEqual(t, answer.AsOf, settled, name)
			for _, h := range answer.Hits {
				require.NotEqual(t, "three", h.Text)
			}
		}
	}
}

// A search and its statistics are of one moment, whatever an indexer commits meanwhile.
func TestASearchWhileIndexingIsOfOneMoment(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	say(t, log, "discussion-0", "p", "anna", "the lid is loose")
	index := newIndex(t, log, vectorsearch.Config{})
	advance(t, log, index)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 30 {
			say(t, log, "discussion-1", "p", "anna", "the lid is loose", "the lid")
			advance(t, log, index)
		}
	}()
	for searched := 0; ; searched++ {
		select {
		case <-done:
			require.Positive(t, searched)
			return
		default:
		}
		answer, err := index.Search(t.Context(), vectorsearch.Query{Text: "the lid is loose", K: 100})
		require.NoError(t, err)
		require.NotEmpty(t, answer.Hits)
		for _, h := range answer.Hits {
			require.LessOrEqual(t, h.Position, answer.AsOf)
		}
		again, err := index.Search(t.Context(), vectorsearch.Query{Text: "the lid is loose", K: 100, AsOf: answer.AsOf})
		require.NoError(t, err)
		requireSameHits(t, answer.Hits, again.Hits)
	}
}

// pgvector 0.7 has no scans that go on until enough passes a filter: what HNSW leaves is compared. As-of searches by HNSW, too.
func TestHNSWThatGivesUpEarly(t *testing.T) {
	t.Parallel()
	pool := eventstoretest.Pool(t, startServer(t).URL())
	store, err := eventstore.New(pool, eventstore.Config{Codec: focusgroup.Codec()})
	require.NoError(t, err)
	require.NoError(t, store.Migrate(t.Context()))
	log := &eventstoretest.Log{Store: store, Pool: pool}
	fillMonths(t, log, 1, 10_500)
	embedder := clustered.New(48, 20)
	index := newIndex(t, log, vectorsearch.Config{Embedder: embedder})
	advance(t, log, index)
	done, err := index.Maintain(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, done.Built, 1)
	_, err = pool.Exec(t.Context(), `ANALYZE`)
	require.NoError(t, err)

	common := vectorsearch.Filter{Personas: []string{"common"}}
	query := vectorsearch.Query{Vector: embedder.Vector(1 << 40), Filter: common}
	answer, err := index.Search(t.Context(), query)
	require.NoError(t, err)
	require.Equal(t, vectorsearch.PathHNSW, answer.Path)
	require.False(t, answer.Complete)

	// As of a position in the middle, by HNSW and exactly.
	query.AsOf, query.Filter = answer.AsOf*2/3, vectorsearch.Filter{}
	answer, err = index.Search(t.Context(), query)
	require.NoError(t, err)
	require.Equal(t, vectorsearch.PathHNSW, answer.Path)
	query.Exact = true
	exact, err := index.Search(t.Context(), query)
	require.NoError(t, err)
	same := 0
	for i, h := range answer.Hits {
		require.LessOrEqual(t, h.Position, query.AsOf)
		if h.Position == exact.Hits[i].Position {
			same++
		}
	}
	require.GreaterOrEqual(t, same, 9)

	_, err = pool.Exec(t.Context(), `UPDATE pg_extension SET extversion = '0.7.0' WHERE extname = 'vector'`)
	require.NoError(t, err)
	old := newIndex(t, log, vectorsearch.Config{Embedder: embedder})
	short, err := old.Search(t.Context(), vectorsearch.Query{Vector: embedder.Vector(1 << 40), Filter: common, EfSearch: 8})
	require.NoError(t, err)
	require.Equal(t, vectorsearch.PathExact, short.Path, "eight candidates are not enough for ten hits")
	require.True(t, short.Complete)
	require.Len(t, short.Hits, 10)
}
