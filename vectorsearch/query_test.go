package vectorsearch_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/vectorsearch"
)

func TestBadQueries(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	say(t, log, "discussion-1", "p", "anna", "one")
	index := newIndex(t, log, vectorsearch.Config{Embedder: &wordEmbedder{dimensions: 3}})
	advance(t, log, index)
	nan, infinite := float32(math.NaN()), float32(math.Inf(1))
	for name, query := range map[string]vectorsearch.Query{
		"nothing":                {},
		"white space":            {Text: " \n "},
		"no letter":              {Text: "?!"},
		"NUL":                    {Text: "a\x00b"},
		"no UTF-8":               {Text: "a\xff"},
		"too long for the model": {Text: strings.Repeat("a", 2001)},
		"two ways":               {Text: "a", Example: 1},
		"wrong dimensions":       {Vector: []float32{1, 2}},
		"NaN":                    {Vector: []float32{1, nan, 2}},
		"infinite":               {Vector: []float32{1, infinite, 2}},
		"zero":                   {Vector: []float32{0, 0, 0}},
		"negative K":             {Text: "a", K: -1},
		"absurd K":               {Text: "a", K: 1_000_000},
		"negative Offset":        {Text: "a", Offset: -1},
		"deep Hybrid":            {Text: "a", Offset: 195, K: 10},
		"absurd Offset":          {Text: "a", Offset: 1 << 40},
		"negative AsOf":          {Text: "a", AsOf: -1},
		"negative Example":       {Example: -1},
		"unknown ranking":        {Text: "a", Ranking: "magic"},
		"words of a vector":      {Vector: []float32{1, 2, 3}, Ranking: vectorsearch.ByWords},
		"similarity over 1":      {Text: "a", MinSimilarity: 1.5},
		"similarity NaN":         {Text: "a", MinSimilarity: math.NaN()},
		"negative group":         {Text: "a", PerDiscussion: -1},
		"absurd context":         {Text: "a", Context: 1000},
		"absurd ef":              {Text: "a", EfSearch: 5000},
		"negative weights":       {Text: "a", Fusion: vectorsearch.Fusion{Words: -1}},
		"NUL in a filter":        {Text: "a", Filter: vectorsearch.Filter{Personas: []string{"a\x00"}}},
		"no UTF-8 in metadata":   {Text: "a", Filter: vectorsearch.Filter{Metadata: map[string]string{"k": "\xff"}}},
		"times the wrong way":    {Text: "a", Filter: vectorsearch.Filter{From: time.Unix(2, 0), To: time.Unix(1, 0)}},
	} {
		_, err := index.Search(t.Context(), query)
		require.ErrorIs(t, err, eventstore.ErrInvalid, name)
	}
	_, err := index.Search(t.Context(), vectorsearch.Query{Example: 1 << 40})
	require.ErrorIs(t, err, vectorsearch.ErrNotIndexed)
}

func TestSQLInValuesIsText(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	evil := `'); DROP TABLE events; --`
	say(t, log, "discussion-1", evil, evil, "one "+evil, "two")
	index := newIndex(t, log, vectorsearch.Config{})
	advance(t, log, index)
	filter := vectorsearch.Filter{Metadata: map[string]string{}}
	for _, set := range [][2]string{{"project", evil}, {"persona", evil}, {"discussion", "discussion-1"}, {"type", "response"}, {"language", "en"}} {
		require.NoError(t, filter.Set(set[0], set[1]))
	}
	answer, err := index.Search(t.Context(), vectorsearch.Query{Text: evil + ` & | ! :* <-> \`, Filter: filter})
	require.NoError(t, err)
	require.Len(t, answer.Hits, 2)
	for _, set := range [][2]string{{"user", evil}, {"discussion", evil}, {"type", evil}, {"language", evil}, {"metadata." + evil, evil}} {
		filter := vectorsearch.Filter{}
		require.NoError(t, filter.Set(set[0], set[1]))
		answer, err := index.Search(t.Context(), vectorsearch.Query{Text: "one", Filter: filter})
		require.NoError(t, err)
		require.Empty(t, answer.Hits, set[0])
		require.True(t, answer.Complete)
	}
}

func TestFiltersByName(t *testing.T) {
	t.Parallel()
	var filter vectorsearch.Filter
	for _, set := range [][2]string{{"colour", "red"}, {"", "x"}, {"metadata.", "x"}, {"from", "yesterday"}, {"project", "a\x00"}} {
		require.ErrorIs(t, filter.Set(set[0], set[1]), eventstore.ErrInvalid, set[0])
	}
	require.Equal(t, vectorsearch.Filter{}, filter)
	require.NoError(t, filter.Set("from", "2026-11-01"))
	require.NoError(t, filter.Set("to", "2026-11-02T10:00:00+01:00"))
	require.NoError(t, filter.Set("metadata.actor", "moderator"))
	require.Equal(t, time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), filter.From)
	require.True(t, time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC).Equal(filter.To))
	require.Equal(t, map[string]string{"actor": "moderator"}, filter.Metadata)
}

func TestPagesGroupsAndThresholds(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	const discussions = 20
	for d := range discussions {
		id := eventstore.StreamID("discussion-" + string(rune('a'+d)))
		say(t, log, id, "p", "anna", "the lid is loose", "the lid is tight", "I like the lid", "something else", "lid")
	}
	index := newIndex(t, log, vectorsearch.Config{})
	advance(t, log, index)
	for _, ranking := range []vectorsearch.Ranking{vectorsearch.ByMeaning, vectorsearch.ByWords, vectorsearch.Hybrid} {
		query := vectorsearch.Query{Text: "lid loose", Ranking: ranking, K: 5 * discussions}
		whole, err := index.Search(t.Context(), query)
		require.NoError(t, err)
		var paged []vectorsearch.Hit
		query.K, query.AsOf = 7, whole.AsOf
		for len(paged) < len(whole.Hits) {
			query.Offset = len(paged)
			page, err := index.Search(t.Context(), query)
			require.NoError(t, err)
			require.NotEmpty(t, page.Hits)
			paged = append(paged, page.Hits...)
		}
		require.Equal(t, whole.Hits, paged, ranking)

		query.K, query.Offset, query.PerDiscussion = 30, 0, 1
		grouped, err := index.Search(t.Context(), query)
		require.NoError(t, err)
		require.True(t, grouped.Complete)
		require.Len(t, grouped.Hits, discussions, ranking)
		seen := map[eventstore.StreamID]bool{}
		for _, h := range grouped.Hits {
			require.False(t, seen[h.StreamID])
			seen[h.StreamID] = true
		}
	}
	answer, err := index.Search(t.Context(), vectorsearch.Query{Text: "the lid is loose", Ranking: vectorsearch.ByMeaning, K: 50, MinSimilarity: 0.99})
	require.NoError(t, err)
	require.Len(t, answer.Hits, discussions)

	like, err := index.Search(t.Context(), vectorsearch.Query{Example: answer.Hits[0].Position, K: 50, MinSimilarity: 0.99})
	require.NoError(t, err)
	require.Len(t, like.Hits, discussions-1, "the example is no hit itself")
	require.NotContains(t, like.Hits, answer.Hits[0])
}
