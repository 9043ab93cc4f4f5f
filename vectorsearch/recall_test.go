package vectorsearch_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/internal/clustered"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
	"github.com/sight-platform/hindsight/vectorsearch"
)

// The real sentence vectors of the corpus, by HNSW, against the exact answers that come with them.
func TestRecallOnRealVectors(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(filepath.Dir(corpustest.Recordings(t)), "vectors")
	turns, queries := readVectors(t, filepath.Join(folder, "use512_turns_val.f32"), 512), readVectors(t, filepath.Join(folder, "use512_queries_val.f32"), 512)
	log := inSessions(t, newLog(t))
	fillMonths(t, log, 1, len(turns))
	index := newIndex(t, log, vectorsearch.Config{Embedder: tableEmbedder(turns)})
	advance(t, log, index)
	done, err := index.Maintain(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, done.Built, 1)

	exact := readExact(t, filepath.Join(folder, "use512_exact_top10_val.ndjson"))
	require.Len(t, exact, len(queries))
	found, wanted := 0, 0
	for i, query := range queries {
		answer, err := index.Search(t.Context(), vectorsearch.Query{Vector: query})
		require.NoError(t, err)
		require.Equal(t, vectorsearch.PathHNSW, answer.Path)
		require.Len(t, answer.Hits, 10)
		tenth := exact[i][len(exact[i])-1]
		wanted += len(exact[i])
		for _, h := range answer.Hits { // turns of the same words have the same vector: any of them counts
			if cosine(turns[number(t, h.Text)], query) >= tenth-1e-3 {
				found++
			}
		}
	}
	recall := float64(found) / float64(wanted)
	t.Logf("%d queries over %d vectors: recall@10 %.4f", len(queries), len(turns), recall)
	require.GreaterOrEqual(t, recall, 0.98)
}

// tableEmbedder has the vectors of numbered texts.
type tableEmbedder [][]float32

func (e tableEmbedder) Model() vectorsearch.Model {
	return vectorsearch.Model{Name: "table", Dimensions: len(e[0]), MaxTexts: 1000}
}

func (e tableEmbedder) Embed(_ context.Context, texts []string) ([][]float32, vectorsearch.Usage, error) {
	out := make([][]float32, len(texts))
	for i, text := range texts {
		n, err := strconv.Atoi(strings.TrimPrefix(text, "turn "))
		if err != nil {
			return nil, vectorsearch.Usage{}, &vectorsearch.TextError{Index: i, Err: err}
		}
		out[i] = e[n]
	}
	return out, vectorsearch.Usage{}, nil
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimPrefix(text, "turn "))
	require.NoError(t, err)
	return n
}

func readVectors(t *testing.T, path string, dimensions int) [][]float32 {
	t.Helper()
	bytes, err := os.ReadFile(path)
	require.NoError(t, err)
	out := make([][]float32, len(bytes)/4/dimensions)
	for i := range out {
		out[i] = make([]float32, dimensions)
		for d := range out[i] {
			out[i][d] = math.Float32frombits(binary.LittleEndian.Uint32(bytes[4*(i*dimensions+d):]))
		}
	}
	return out
}

// readExact are the similarities of each query's ten nearest.
func readExact(t *testing.T, path string) [][]float64 {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	var out [][]float64
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var line struct{ Top [][]any }
		require.NoError(t, json.Unmarshal(lines.Bytes(), &line))
		var similarities []float64
		for _, top := range line.Top {
			similarities = append(similarities, top[2].(float64))
		}
		out = append(out, similarities)
	}
	require.NoError(t, lines.Err())
	return out
}

func cosine(a, b []float32) float64 {
	var dot, aa, bb float64
	for i := range a {
		dot, aa, bb = dot+float64(a[i])*float64(b[i]), aa+float64(a[i])*float64(a[i]), bb+float64(b[i])*float64(b[i])
	}
	return dot / math.Sqrt(aa*bb)
}

// Recall over many months and dimensions, by selectivity: HINDSIGHT_TEST_LONG=1, for many minutes. The short form of it is
// TestHNSWFindsWhatComparingFinds.
func TestRecallOverMonths(t *testing.T) {
	if os.Getenv("HINDSIGHT_TEST_LONG") == "" {
		t.Skip("HINDSIGHT_TEST_LONG is not set: this builds 62 indexes; TestHNSWFindsWhatComparingFinds builds two")
	}
	const each = 10_500
	for _, dimensions := range []int{384, 768} {
		for _, months := range []int{1, 6, 24} {
			t.Run(fmt.Sprintf("%d dimensions, %d months", dimensions, months), func(t *testing.T) {
				started := time.Now()
				log := inSessions(t, newLog(t))
				fillMonths(t, log, months, each)
				embedder := clustered.New(dimensions, 100)
				index := newIndex(t, log, vectorsearch.Config{Embedder: embedder})
				advance(t, log, index)
				done, err := index.Maintain(t.Context(), nil)
				require.NoError(t, err)
				require.Len(t, done.Built, months)
				for _, persona := range []string{"", clustered.Tenth, clustered.Hundredth, clustered.Thousandth} {
					filter := vectorsearch.Filter{}
					if persona != "" {
						filter.Personas = []string{persona}
					}
					recall := recallOf(t, index, embedder, filter, "")
					t.Logf("%-12s recall@10 %.4f", persona, recall)
					require.GreaterOrEqual(t, recall, 0.98, persona)
				}
				t.Logf("%v", time.Since(started).Round(time.Second))
			})
		}
	}
}
