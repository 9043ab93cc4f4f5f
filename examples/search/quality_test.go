package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/examples/internal/command"
	"github.com/sight-platform/hindsight/examples/internal/retrieval"
	"github.com/sight-platform/hindsight/vectorsearch"
)

// plainBM25 is what BM25 over plain lower-case words reaches on these recordings (k1 1.2, b 0.75).
func plainBM25() retrieval.Quality { return retrieval.Quality{Hit1: .393, NDCG10: .285, MRR: .528} }

// The default ranking on real discussions and the questions that people asked about them: full text is as good as BM25, and the
// fusion is better than each of its parts in nDCG@10. Parameters were chosen on the training recordings; HINDSIGHT_TEST_LONG=1
// measures those too.
func TestQualityOnRealDiscussions(t *testing.T) {
	t.Parallel()
	splits := []string{"val"}
	if os.Getenv("HINDSIGHT_TEST_LONG") != "" {
		splits = append(splits, "train")
	}
	for _, name := range splits {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			split := retrieval.Load(t, name, 1)
			log := eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
			for _, path := range split.Files {
				require.NoError(t, command.Import(t.Context(), log.Store, path))
			}
			index, err := build(t.Context(), log.Store, longTurns())
			require.NoError(t, err)
			words, meaning, hybrid := asked(t, split, index, vectorsearch.ByWords), asked(t, split, index, vectorsearch.ByMeaning), asked(t, split, index, vectorsearch.Hybrid)
			bm25, mean := plainBM25(), retrieval.Mean(words)
			if name == "val" {
				require.GreaterOrEqual(t, mean.Hit1, bm25.Hit1)
				require.GreaterOrEqual(t, mean.NDCG10, bm25.NDCG10)
				require.GreaterOrEqual(t, mean.MRR, bm25.MRR)
			}
			for against, other := range map[string][]retrieval.Quality{"words": words, "meaning": meaning} {
				low, _ := difference(t, "hybrid - "+against, hybrid, other)
				require.Positive(t, low.NDCG10, "hybrid is better than by %s alone", against)
			}
		})
	}
}

// longTurns leaves out the turns that the questions were not asked about.
func longTurns() vectorsearch.Recipe {
	recipe := vectorsearch.Discussions()
	passages := recipe.Passages
	recipe.Types = []string{focusgroup.TypeResponse, focusgroup.TypeFollowup}
	recipe.Passages = func(e eventstore.Recorded) ([]vectorsearch.Passage, error) {
		found, err := passages(e)
		return slices.DeleteFunc(found, func(p vectorsearch.Passage) bool { return !retrieval.LongEnough(p.Text) }), err
	}
	return recipe
}

// asked judges the answers to all questions, each in its discussion.
func asked(t *testing.T, split retrieval.Split, index *vectorsearch.Index, ranking vectorsearch.Ranking) []retrieval.Quality {
	t.Helper()
	var judged []retrieval.Quality
	for _, q := range split.Questions {
		answer, err := index.Search(t.Context(), vectorsearch.Query{
			Text: q.Query, Ranking: ranking, K: 200,
			Filter: vectorsearch.Filter{Discussions: []eventstore.StreamID{eventstore.StreamID("discussion-" + q.Stream)}},
		})
		require.NoError(t, err)
		require.True(t, answer.Complete)
		ranked := make([]int, len(answer.Hits))
		for i, h := range answer.Hits {
			ranked[i] = int(h.Version)
		}
		judged = append(judged, q.Judge(ranked))
	}
	mean := retrieval.Mean(judged)
	t.Logf("%-7s %-8s %d questions: hit@1 %.3f, nDCG@10 %.3f, MRR %.3f", split.Name, ranking, len(judged), mean.Hit1, mean.NDCG10, mean.MRR)
	return judged
}

// difference is a 95 % interval of the mean difference, by a paired bootstrap. One that holds 0 is a tie.
func difference(t *testing.T, name string, a, b []retrieval.Quality) (low, high retrieval.Quality) {
	t.Helper()
	const resamples = 10_000
	source := rand.New(rand.NewPCG(1, 2))
	parts := make([][]float64, 3)
	for range resamples {
		var sum [3]float64
		for range a {
			i := source.IntN(len(a))
			sum[0] += a[i].Hit1 - b[i].Hit1
			sum[1] += a[i].NDCG10 - b[i].NDCG10
			sum[2] += a[i].MRR - b[i].MRR
		}
		for p := range parts {
			parts[p] = append(parts[p], sum[p]/float64(len(a)))
		}
	}
	var text []string
	bounds := make([][2]float64, len(parts))
	for p, metric := range []string{"hit@1", "nDCG@10", "MRR"} {
		slices.SortFunc(parts[p], cmp.Compare[float64])
		bounds[p] = [2]float64{parts[p][resamples*25/1000], parts[p][resamples*975/1000]}
		verdict := ""
		if bounds[p][0] <= 0 && bounds[p][1] >= 0 {
			verdict = " (a tie)"
		}
		text = append(text, fmt.Sprintf("%s [%+.3f, %+.3f]%s", metric, bounds[p][0], bounds[p][1], verdict))
	}
	t.Logf("%s: %s", name, strings.Join(text, ", "))
	return retrieval.Quality{Hit1: bounds[0][0], NDCG10: bounds[1][0], MRR: bounds[2][0]}, retrieval.Quality{Hit1: bounds[0][1], NDCG10: bounds[1][1], MRR: bounds[2][1]}
}
