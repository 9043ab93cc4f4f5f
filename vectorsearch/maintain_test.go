package vectorsearch_test

import (
	"context"
	"encoding/json"
	"iter"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/vectorsearch"
)

// clusteredEmbedder makes vectors as real ones lie: around centres that lie around centres. A text is a number.
type clusteredEmbedder struct {
	dimensions int
	centres    [][]float32
}

func newClustered(dimensions, clusters int) *clusteredEmbedder {
	e := &clusteredEmbedder{dimensions: dimensions}
	source := rand.New(rand.NewPCG(7, 7))
	for range clusters {
		e.centres = append(e.centres, direction(source, dimensions))
	}
	return e
}

func direction(source *rand.Rand, dimensions int) []float32 {
	out := make([]float32, dimensions)
	for d := range out {
		out[d] = float32(source.NormFloat64())
	}
	return out
}

func (e *clusteredEmbedder) Model() vectorsearch.Model {
	return vectorsearch.Model{Name: "clustered", Dimensions: e.dimensions, MaxTexts: 1000}
}

func (e *clusteredEmbedder) vector(n uint64) []float32 {
	source := rand.New(rand.NewPCG(n, 3))
	out := direction(source, e.dimensions)
	// As of real sentence vectors, most of the variance is shared, and clusters are of different sizes.
	at := int(float64(len(e.centres)) * source.Float64() * source.Float64())
	for d := range out {
		out[d] = 0.6*out[d] + e.centres[at][d]
	}
	return out
}

func (e *clusteredEmbedder) Embed(_ context.Context, texts []string) ([][]float32, vectorsearch.Usage, error) {
	out := make([][]float32, len(texts))
	for i, text := range texts {
		n, err := strconv.ParseUint(text[strings.LastIndexByte(text, ' ')+1:], 10, 64)
		if err != nil {
			return nil, vectorsearch.Usage{}, &vectorsearch.TextError{Index: i, Err: err}
		}
		out[i] = e.vector(n)
	}
	return out, vectorsearch.Usage{}, nil
}

// fillMonths imports so many turns in each of the months before the present one: a persona in each tenth, hundredth, thousandth.
func fillMonths(t testing.TB, log *eventstoretest.Log, months, each int) {
	t.Helper()
	now := time.Now().UTC()
	first := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC).AddDate(0, -months, 0)
	source := func(string) iter.Seq2[eventstore.Imported, error] {
		return func(yield func(eventstore.Imported, error) bool) {
			versions := map[eventstore.StreamID]eventstore.Version{}
			for n := range months * each {
				at := first.AddDate(0, n/each, 0).Add(time.Duration(n%each) * (27 * 24 * time.Hour / time.Duration(each)))
				persona := "common"
				switch {
				case n%1000 == 0:
					persona = "one-in-1000"
				case n%100 == 1:
					persona = "one-in-100"
				case n%10 == 2:
					persona = "one-in-10"
				}
				id := eventstore.StreamID("discussion-" + strconv.Itoa(n/each) + "-" + strconv.Itoa(n%(each/50+1)))
				versions[id]++
				body, err := json.Marshal(focusgroup.Response{PersonaID: persona, Text: "turn " + strconv.Itoa(n)})
				if !yield(eventstore.Imported{
					StreamID: id, Version: versions[id], RecordedAt: at,
					Event: eventstore.Event{ID: uuid.New(), OccurredAt: at, Data: eventstore.Raw{Type: focusgroup.TypeResponse, JSON: body}},
				}, err) {
					return
				}
			}
		}
	}
	_, err := log.Import(t.Context(), source, eventstore.ImportConfig{})
	require.NoError(t, err)
}

func TestHNSWFindsWhatComparingFinds(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	const each = 12_000
	fillMonths(t, log, 2, each)
	embedder := newClustered(128, 60)
	index := newIndex(t, log, vectorsearch.Config{Embedder: embedder})
	advance(t, log, index)
	var phases []string
	done, err := index.Maintain(t.Context(), func(p vectorsearch.Progress) { phases = append(phases, p.Phase) })
	require.NoError(t, err)
	require.Len(t, done.Built, 2)
	require.NotEmpty(t, phases)
	again, err := index.Maintain(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, again.Built)

	for persona, path := range map[string]vectorsearch.Path{"": vectorsearch.PathHNSW, "one-in-10": "", "one-in-100": vectorsearch.PathExact, "one-in-1000": vectorsearch.PathExact} {
		filter := vectorsearch.Filter{}
		if persona != "" {
			filter.Personas = []string{persona}
		}
		found, wanted := 0, 0
		for n := range 40 {
			query := vectorsearch.Query{Vector: embedder.vector(uint64(1_000_000 + n)), Filter: filter}
			answer, err := index.Search(t.Context(), query)
			require.NoError(t, err)
			if path != "" {
				require.Equal(t, path, answer.Path, persona)
			}
			require.Equal(t, answer.Path == vectorsearch.PathExact, answer.Complete)
			query.Exact = true
			exact, err := index.Search(t.Context(), query)
			require.NoError(t, err)
			require.True(t, exact.Complete)
			require.Len(t, exact.Hits, 10)
			wanted += 10
			for _, h := range answer.Hits {
				if slices.ContainsFunc(exact.Hits, func(e vectorsearch.Hit) bool { return e.Position == h.Position }) {
					found++
				}
			}
		}
		t.Logf("%q: recall %.3f", persona, float64(found)/float64(wanted))
		require.GreaterOrEqual(t, float64(found)/float64(wanted), 0.98, persona)
	}
}
