package wordvectors

import (
	"bytes"
	"cmp"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/examples/internal/retrieval"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
)

// quality of asking each question in its discussion, by cosine similarity; equal turns stay in their order.
func quality(t *testing.T, s retrieval.Split, e *Embedder) retrieval.Quality {
	t.Helper()
	vectors := map[string][][]float32{}
	for stream, turns := range s.Turns {
		texts := make([]string, len(turns))
		for i := range turns {
			texts[i] = turns[i].Text
		}
		vectors[stream] = embed(t, e, texts...)
	}
	var judged []retrieval.Quality
	for _, q := range s.Questions {
		asked := embed(t, e, q.Query)[0]
		order := make([]int, len(vectors[q.Stream]))
		similarity := make([]float64, len(order))
		for i, vector := range vectors[q.Stream] {
			order[i], similarity[i] = i, cosine(vector, asked)
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(similarity[b], similarity[a]) })
		for rank, i := range order {
			order[rank] = s.Turns[q.Stream][i].Seq
		}
		judged = append(judged, q.Judge(order))
	}
	mean := retrieval.Mean(judged)
	t.Logf("%s: %d questions, hit@1 %.3f, nDCG@10 %.3f, MRR %.3f", s.Name, len(judged), mean.Hit1, mean.NDCG10, mean.MRR)
	return mean
}

func cosine(a, b []float32) float64 {
	dot := 0.0
	for k := range a {
		dot += float64(a[k]) * float64(b[k])
	}
	return dot // of vectors of length 1
}

const tolerance = .01

func atLeast(t *testing.T, want, got retrieval.Quality) {
	t.Helper()
	require.GreaterOrEqual(t, got.Hit1, want.Hit1-tolerance)
	require.GreaterOrEqual(t, got.NDCG10, want.NDCG10-tolerance)
	require.GreaterOrEqual(t, got.MRR, want.MRR-tolerance)
}

// The figures of the data's README for SIF with the common component removed, on all validation recordings.
func TestRetrieval(t *testing.T) {
	t.Parallel()
	atLeast(t, retrieval.Quality{Hit1: .28, NDCG10: .23, MRR: .42}, quality(t, retrieval.Load(t, "val", 1), open(t)))
}

func TestTableIsWhatBuildMakes(t *testing.T) {
	t.Parallel()
	recordings := corpustest.Recordings(t)
	exact, err := weightedWords(filepath.Join(filepath.Dir(recordings), "vectors"), recordings)
	require.NoError(t, err)
	quantized, err := decode(bytes.NewReader(table))
	require.NoError(t, err)
	require.Len(t, quantized, len(exact))
	for i, word := range quantized {
		require.Equal(t, exact[i].text, word.text)
		scale, _ := quantize(exact[i].vector)
		for k, x := range word.vector { // a whole level instead of a half: other processors round differently
			if math.Abs(float64(exact[i].vector[k]-x)) > float64(scale) {
				t.Fatalf("%s has %v in dimension %d, not %v", word.text, x, k, exact[i].vector[k])
			}
		}
	}

	train := retrieval.Load(t, "train", 4) // enough, and four times as fast
	want, got := quality(t, train, newEmbedder("", exact)), quality(t, train, open(t))
	require.InDelta(t, want.NDCG10, got.NDCG10, .01, "quantizing loses little")
	atLeast(t, retrieval.Quality{Hit1: .39, NDCG10: .31, MRR: .53}, got)
}
