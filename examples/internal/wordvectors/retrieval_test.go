package wordvectors

import (
	"bytes"
	"cmp"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
)

// Turns shorter than this are not searched, as in the figures of the data's README.
const fewestWords = 4

// question is a query about a discussion, with the turns in which people found its answer.
type question struct {
	Kind, Stream, Query string
	RelevantSeqs        []int `json:"relevant_seqs"`

	relevant []bool // each turn of the discussion
}

type turn struct {
	Stream, Type, Text string
	Seq                int
}

type quality struct{ hit1, ndcg10, mrr float64 }

func eachLine[T any](t *testing.T, path string, do func(T)) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	for line, err := range focusgroup.Lines(f) {
		require.NoError(t, err)
		var value T
		require.NoError(t, json.Unmarshal(line.Text, &value))
		do(value)
	}
}

// split of the recordings, and the questions about them.
type split struct {
	name        string
	discussions map[string][]turn
	questions   []question
}

// load reads the discussions numbered 0, every, 2*every, …
func load(t *testing.T, name string, every int) split {
	t.Helper()
	recordings := corpustest.Recordings(t)
	s := split{name: name, discussions: map[string][]turn{}}
	files, err := filepath.Glob(filepath.Join(recordings, "qmsum_*_"+name+".ndjson.gz"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	streams := 0
	for _, path := range files {
		eachLine(t, path, func(turn turn) {
			if turn.Type == focusgroup.TypeDiscussionStarted {
				streams++
			}
			said := turn.Type != focusgroup.TypeDiscussionStarted && turn.Type != focusgroup.TypeDiscussionEnded
			if said && (streams-1)%every == 0 && len(strings.Fields(turn.Text)) >= fewestWords {
				s.discussions[turn.Stream] = append(s.discussions[turn.Stream], turn)
			}
		})
	}
	eachLine(t, filepath.Join(filepath.Dir(recordings), "truth", "qmsum_"+name+".ndjson"), func(q question) {
		q.relevant = relevance(s.discussions[q.Stream], q.RelevantSeqs)
		if q.Kind == "specific" && slices.Contains(q.relevant, true) {
			s.questions = append(s.questions, q)
		}
	})
	require.NotEmpty(t, s.questions)
	return s
}

// retrieval asks each question in its discussion.
func (s split) retrieval(t *testing.T, e *Embedder) quality {
	t.Helper()
	vectors := map[string][][]float32{}
	for stream, turns := range s.discussions {
		texts := make([]string, len(turns))
		for i := range turns {
			texts[i] = turns[i].Text
		}
		vectors[stream] = embed(t, e, texts...)
	}
	var mean quality
	n := float64(len(s.questions))
	for _, q := range s.questions {
		got := judge(q.relevant, vectors[q.Stream], embed(t, e, q.Query)[0])
		mean = quality{mean.hit1 + got.hit1/n, mean.ndcg10 + got.ndcg10/n, mean.mrr + got.mrr/n}
	}
	t.Logf("%s: %.0f questions, hit@1 %.3f, nDCG@10 %.3f, MRR %.3f", s.name, n, mean.hit1, mean.ndcg10, mean.mrr)
	return mean
}

func relevance(turns []turn, seqs []int) []bool {
	relevant := make([]bool, len(turns))
	for i := range turns {
		relevant[i] = slices.Contains(seqs, turns[i].Seq)
	}
	return relevant
}

// judge ranks turns by cosine similarity; equal ones stay in their order.
func judge(relevant []bool, vectors [][]float32, query []float32) quality {
	order := make([]int, len(vectors))
	similarity := make([]float64, len(vectors))
	ideal, found := 0.0, 0
	for i, vector := range vectors {
		order[i], similarity[i] = i, cosine(vector, query)
		if relevant[i] && found < 10 {
			ideal += gain(found)
			found++
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(similarity[b], similarity[a]) })
	var q quality
	for rank, i := range order {
		if !relevant[i] {
			continue
		}
		if q.mrr == 0 {
			q.mrr = 1 / float64(rank+1)
		}
		if rank == 0 {
			q.hit1 = 1
		}
		if rank < 10 {
			q.ndcg10 += gain(rank) / ideal
		}
	}
	return q
}

func gain(rank int) float64 { return 1 / math.Log2(float64(rank+2)) }

func cosine(a, b []float32) float64 {
	dot := 0.0
	for k := range a {
		dot += float64(a[k]) * float64(b[k])
	}
	return dot // of vectors of length 1
}

const tolerance = .01

func atLeast(t *testing.T, want, got quality) {
	t.Helper()
	require.GreaterOrEqual(t, got.hit1, want.hit1-tolerance)
	require.GreaterOrEqual(t, got.ndcg10, want.ndcg10-tolerance)
	require.GreaterOrEqual(t, got.mrr, want.mrr-tolerance)
}

// The figures of the data's README for SIF with the common component removed, on all validation recordings.
func TestRetrieval(t *testing.T) {
	t.Parallel()
	atLeast(t, quality{.28, .23, .42}, load(t, "val", 1).retrieval(t, open(t)))
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

	train := load(t, "train", 4) // enough, and four times as fast
	want, got := train.retrieval(t, newEmbedder("", exact)), train.retrieval(t, open(t))
	require.InDelta(t, want.ndcg10, got.ndcg10, .01, "quantizing loses little")
	atLeast(t, quality{.39, .31, .53}, got)
}
