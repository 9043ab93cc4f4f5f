package vectorsearch_test

import (
	"context"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/vectorsearch"
)

// wordEmbedder is a real, if simple, embedder: the sum of a random direction for each word.
type wordEmbedder struct {
	dimensions int
	calls      atomic.Int64
	texts      atomic.Int64
	fail       func(texts []string) error // before anything is embedded
}

func (e *wordEmbedder) Model() vectorsearch.Model {
	return vectorsearch.Model{Name: "words", Revision: "test", Dimensions: e.dimensions, MaxTexts: 50, MaxBytes: 2000}
}

func (e *wordEmbedder) Embed(_ context.Context, texts []string) ([][]float32, vectorsearch.Usage, error) {
	e.calls.Add(1)
	if e.fail != nil {
		if err := e.fail(texts); err != nil {
			return nil, vectorsearch.Usage{}, err
		}
	}
	e.texts.Add(int64(len(texts)))
	out := make([][]float32, len(texts))
	var usage vectorsearch.Usage
	for i, text := range texts {
		out[i] = make([]float32, e.dimensions)
		for _, word := range strings.Fields(strings.ToLower(text)) {
			hash := fnv.New64a()
			_, _ = hash.Write([]byte(strings.Trim(word, ".,?!")))
			direction := rand.New(rand.NewPCG(hash.Sum64(), 1))
			for d := range out[i] {
				out[i][d] += float32(direction.NormFloat64())
			}
			usage.Tokens++
		}
	}
	usage.CostUSD = float64(usage.Tokens) / 1e6
	return out, usage, nil
}

func newLog(t testing.TB) *eventstoretest.Log {
	t.Helper()
	return eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
}

func newIndex(t testing.TB, log *eventstoretest.Log, config vectorsearch.Config) *vectorsearch.Index {
	t.Helper()
	if config.Embedder == nil {
		config.Embedder = &wordEmbedder{dimensions: 64}
	}
	index, err := vectorsearch.New(log.Store, config)
	require.NoError(t, err)
	require.NoError(t, index.Migrate(t.Context()))
	return index
}

// advance runs an index over what is new in the log, and stops it.
func advance(t testing.TB, log *eventstoretest.Log, index *vectorsearch.Index) *projection.Runner {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{index}, Retries: 1, RetryAfter: 10 * time.Millisecond})
	require.NoError(t, err)
	require.NoError(t, runner.CatchUp(ctx))
	return runner
}

func say(t testing.TB, log *eventstoretest.Log, id eventstore.StreamID, project, persona string, texts ...string) {
	t.Helper()
	var events []any
	for _, text := range texts {
		events = append(events, focusgroup.Response{ProjectID: project, PersonaID: persona, Text: text})
	}
	_, err := log.Append(t.Context(), id, eventstore.Any, events...)
	require.NoError(t, err)
}

func texts(hits []vectorsearch.Hit) []string {
	out := make([]string, len(hits))
	for i, h := range hits {
		out[i] = h.Text
	}
	return out
}
