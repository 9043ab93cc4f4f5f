package vectorsearch_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/clustered"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/vectorsearch"
)

// Guarantee V2: what was said before is not embedded again, and what it cost is kept.
func TestTheSameTextIsPaidForOnce(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	embedder := &wordEmbedder{dimensions: 32}
	index := newIndex(t, log, vectorsearch.Config{Embedder: embedder})
	say(t, log, "discussion-1", "p", "anna", "yes", "no", "yes", "yes")
	advance(t, log, index)
	require.EqualValues(t, 2, embedder.texts.Load())

	// Another process, later.
	later := &wordEmbedder{dimensions: 32}
	index = newIndex(t, log, vectorsearch.Config{Embedder: later})
	say(t, log, "discussion-2", "p", "bert", "no", "perhaps not", "yes")
	advance(t, log, index)
	require.EqualValues(t, 1, later.texts.Load())

	var calls, texts, tokens int
	var cost float64
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT count(*), sum(texts), sum(tokens), sum(cost) FROM `+log.Schema()+`.search_costs_v1`).Scan(&calls, &texts, &tokens, &cost))
	require.Equal(t, []int{2, 3, 4}, []int{calls, texts, tokens})
	require.InDelta(t, 4e-6, cost, 1e-12)
	answer, err := index.Search(t.Context(), vectorsearch.Query{Text: "yes"})
	require.NoError(t, err)
	require.Len(t, answer.Hits, 7)
	require.InDelta(t, 1, *answer.Hits[0].Similarity, 0.01)
}

func TestLongTextsAreCutAtTheEndsOfSentences(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	index := newIndex(t, log, vectorsearch.Config{})
	sentences := make([]string, 200)
	for i := range sentences {
		sentences[i] = strings.Repeat("blah ", 5+i%7) + "end."
	}
	sentences[150] = "The hinge of the lid breaks."
	whole := strings.Join(sentences, " ")
	say(t, log, "discussion-1", "p", "anna", "short", whole, strings.Repeat("ż", 3000), "—!?")
	advance(t, log, index)
	answer, err := index.Search(t.Context(), vectorsearch.Query{Text: "hinge lid breaks", Ranking: vectorsearch.ByWords})
	require.NoError(t, err)
	require.Len(t, answer.Hits, 1)
	require.Contains(t, answer.Hits[0].Text, "The hinge of the lid breaks.")
	require.Greater(t, answer.Hits[0].Chunk, 1)

	rows, err := log.Pool.Query(t.Context(), `SELECT version, body FROM `+log.Schema()+`.search_passages ORDER BY position, chunk`)
	require.NoError(t, err)
	defer rows.Close()
	pieces := map[int][]string{}
	for rows.Next() {
		var version int
		var body string
		require.NoError(t, rows.Scan(&version, &body))
		require.LessOrEqual(t, len(body), 2000)
		pieces[version] = append(pieces[version], body)
	}
	require.NoError(t, rows.Err())
	require.Equal(t, whole, strings.Join(pieces[2], " "), "nothing is lost between the pieces")
	for _, piece := range pieces[2] {
		require.True(t, strings.HasSuffix(piece, "end.") || strings.HasSuffix(piece, "breaks."), piece)
	}
	require.Equal(t, strings.Repeat("ż", 3000), strings.Join(pieces[3], ""))
	require.Empty(t, pieces[4], "nothing to search for")
}

func TestRateLimitsAreWaitedOut(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	limits := atomic.Int64{}
	embedder := &wordEmbedder{dimensions: 32}
	embedder.fail = func([]string) error {
		if limits.Add(1) <= 3 {
			return &vectorsearch.RateLimitError{After: 20 * time.Millisecond}
		}
		return nil
	}
	index := newIndex(t, log, vectorsearch.Config{Embedder: embedder})
	say(t, log, "discussion-1", "p", "anna", "one", "two", "three")
	runner := advance(t, log, index)
	parked, err := runner.Parked(t.Context(), "search", 10)
	require.NoError(t, err)
	require.Empty(t, parked)
	require.EqualValues(t, 4, embedder.calls.Load(), "the whole batch waits and goes on as it was")
}

// What cannot be embedded is parked with its discussion, whatever the service calls it; the others go on, and are not paid for twice.
func TestWhatCannotBeEmbeddedIsParked(t *testing.T) {
	t.Parallel()
	poison := func(texts []string) int {
		for i, text := range texts {
			if strings.Contains(text, "poison") {
				return i
			}
		}
		return -1
	}
	for name, fail := range map[string]func([]string) error{
		"by its place": func(texts []string) error {
			if i := poison(texts); i >= 0 {
				return &vectorsearch.TextError{Index: i, Err: errors.New("too strange")}
			}
			return nil
		},
		"together": func(texts []string) error {
			switch i := poison(texts); {
			case i < 0:
				return nil
			case len(texts) == 1:
				return &vectorsearch.TextError{Err: errors.New("too strange")}
			}
			return vectorsearch.ErrBatch
		},
		"as if it would pass": func(texts []string) error {
			if poison(texts) >= 0 {
				return errors.New("internal server error")
			}
			return nil
		},
		"by timeouts": func(texts []string) error {
			if poison(texts) >= 0 {
				return fmt.Errorf("reading the answer: %w", os.ErrDeadlineExceeded) // a net.Error
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newLog(t)
			embedder := &wordEmbedder{dimensions: 32, fail: fail}
			index := newIndex(t, log, vectorsearch.Config{Embedder: embedder})
			say(t, log, "discussion-1", "p", "anna", "one", "poison", "three")
			say(t, log, "discussion-2", "p", "bert", "four", "five", "six")
			runner := advance(t, log, index)
			parked, err := runner.Parked(t.Context(), "search", 10)
			require.NoError(t, err)
			require.Len(t, parked, 2, "the event and what follows it in its discussion")
			require.Equal(t, "discussion-1", parked[0].Key)
			answer, err := index.Search(t.Context(), vectorsearch.Query{Text: "four"})
			require.NoError(t, err)
			require.Len(t, answer.Hits, 4)
			require.False(t, answer.Complete, "an event is parked")
			var texts int
			require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT sum(texts) FILTER (WHERE NOT failed) FROM `+log.Schema()+`.search_costs_v1`).Scan(&texts))
			require.LessOrEqual(t, texts, 5)
		})
	}
}

// Guarantee V5: what a model answers is looked at before it is stored.
func TestBadVectorsAreNotStored(t *testing.T) {
	t.Parallel()
	for name, vector := range map[string][]float32{
		"zero": {0, 0, 0}, "NaN": {1, float32(math.NaN()), 0}, "infinite": {1, 0, float32(math.Inf(-1))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newLog(t)
			index := newIndex(t, log, vectorsearch.Config{Embedder: oddEmbedder{vector}})
			say(t, log, "discussion-1", "p", "anna", "odd")
			say(t, log, "discussion-2", "p", "anna", "plain", "enormous", "tiny")
			runner := advance(t, log, index)
			parked, err := runner.Parked(t.Context(), "search", 10)
			require.NoError(t, err)
			require.Len(t, parked, 1)
			require.Contains(t, parked[0].Error, "its vector", "it says what is wrong")
			answer, err := index.Search(t.Context(), vectorsearch.Query{Vector: []float32{3, 4, 0}})
			require.NoError(t, err)
			require.Len(t, answer.Hits, 3)
			for _, h := range answer.Hits { // whatever their length, in half precision
				require.InDelta(t, 1, *h.Similarity, 0.001, h.Text)
			}
		})
	}
}

// oddEmbedder answers "odd" with a vector that is none.
type oddEmbedder struct{ odd []float32 }

func (oddEmbedder) Model() vectorsearch.Model { return vectorsearch.Model{Name: "odd", Dimensions: 3} }

func (e oddEmbedder) Embed(_ context.Context, texts []string) ([][]float32, vectorsearch.Usage, error) {
	out := make([][]float32, len(texts))
	for i, text := range texts {
		switch text {
		case "odd":
			out[i] = e.odd
		case "enormous":
			out[i] = []float32{2.4e38, 3.2e38, 0}
		case "tiny":
			out[i] = []float32{3e-40, 4e-40, 0}
		default:
			out[i] = []float32{3, 4, 0}
		}
	}
	return out, vectorsearch.Usage{}, nil
}

// A key that is refused is no text's fault: nothing is parked, and indexing goes on once it is mended.
func TestARefusedKeyParksNothing(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	refused := atomic.Int64{}
	embedder := &wordEmbedder{dimensions: 32}
	embedder.fail = func([]string) error {
		if refused.Add(1) <= 2 {
			return vectorsearch.ErrRefused
		}
		return nil
	}
	index := newIndex(t, log, vectorsearch.Config{Embedder: embedder})
	say(t, log, "discussion-1", "p", "anna", "one")
	runner := advance(t, log, index)
	parked, err := runner.Parked(t.Context(), "search", 10)
	require.NoError(t, err)
	require.Empty(t, parked)
	require.EqualValues(t, 3, refused.Load())
}

func TestAnotherModelNeedsAnotherVersion(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	say(t, log, "discussion-1", "p", "anna", "one")
	advance(t, log, newIndex(t, log, vectorsearch.Config{Embedder: &wordEmbedder{dimensions: 32}}))
	other := newIndex(t, log, vectorsearch.Config{Embedder: &wordEmbedder{dimensions: 48}})
	_, err := other.Search(t.Context(), vectorsearch.Query{Text: "one"})
	require.ErrorIs(t, err, vectorsearch.ErrModel)

	// Beside it, a version of its own.
	second := newIndex(t, log, vectorsearch.Config{Embedder: &wordEmbedder{dimensions: 48}, Version: 2})
	_, err = second.Search(t.Context(), vectorsearch.Query{Text: "one"})
	require.ErrorIs(t, err, projection.ErrNotMigrated)
	advance(t, log, second)
	answer, err := second.Search(t.Context(), vectorsearch.Query{Text: "one"})
	require.NoError(t, err)
	require.Len(t, answer.Hits, 1)
}

// A reset takes the months away from under an indexer at work: it notices, and makes them again.
func TestAResetWhileIndexing(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	index := newIndex(t, log, vectorsearch.Config{})
	runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{index}, Lease: time.Second})
	require.NoError(t, err)
	ctx, leave := context.WithTimeout(t.Context(), 2*time.Minute)
	defer leave()
	require.NoError(t, runner.Migrate(ctx))
	ended := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	go func() { ended <- runner.Run(running) }()
	for n := range 4 {
		say(t, log, eventstore.StreamID(fmt.Sprintf("discussion-%d", n)), "p", "anna", "one", "two", "three")
		settled, err := log.Settled(ctx)
		require.NoError(t, err)
		require.NoError(t, runner.WaitFor(ctx, "search", settled))
		answer, err := index.Search(ctx, vectorsearch.Query{Text: "one", K: 100})
		require.NoError(t, err)
		require.Len(t, answer.Hits, 3*(n+1))
		require.True(t, answer.Complete)
		require.NoError(t, runner.Reset(ctx, "search"))
	}
	stop()
	require.NoError(t, <-ended)
}

// What Maintain would drop is not embedded, even when the log is indexed from its start.
func TestMonthsThatAreNotKeptAreNotPaidFor(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	fillMonths(t, log, 4, 20)
	embedder := &countingEmbedder{Embedder: clustered.New(16, 4)}
	index := newIndex(t, log, vectorsearch.Config{Embedder: embedder, KeepMonths: 1})
	advance(t, log, index)
	require.EqualValues(t, 20, embedder.texts.Load())
	answer, err := index.Search(t.Context(), vectorsearch.Query{Vector: embedder.Vector(1), K: 100})
	require.NoError(t, err)
	require.Len(t, answer.Hits, 20)
}

type countingEmbedder struct {
	*clustered.Embedder
	texts atomic.Int64
}

func (e *countingEmbedder) Embed(ctx context.Context, texts []string) ([][]float32, vectorsearch.Usage, error) {
	e.texts.Add(int64(len(texts)))
	return e.Embedder.Embed(ctx, texts)
}

// After Reset everything is indexed again, into the partitions that are there.
func TestAnIndexCanBeReset(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	say(t, log, "discussion-1", "p", "anna", "one", "two")
	runner := advance(t, log, newIndex(t, log, vectorsearch.Config{}))
	require.NoError(t, runner.Reset(t.Context(), "search"))
	again := newIndex(t, log, vectorsearch.Config{})
	advance(t, log, again)
	answer, err := again.Search(t.Context(), vectorsearch.Query{Text: "two"})
	require.NoError(t, err)
	require.Len(t, answer.Hits, 2)
	require.True(t, answer.Complete)
}

func TestBadConfigurations(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	for name, config := range map[string]vectorsearch.Config{
		"no embedder":        {},
		"no dimensions":      {Embedder: &wordEmbedder{}},
		"too many":           {Embedder: &wordEmbedder{dimensions: 4001}},
		"a name with spaces": {Embedder: &wordEmbedder{dimensions: 8}, Name: "my search"},
		"a negative version": {Embedder: &wordEmbedder{dimensions: 8}, Version: -1},
		"half a recipe":      {Embedder: &wordEmbedder{dimensions: 8}, Recipe: vectorsearch.Recipe{Version: 1, Types: []string{focusgroup.TypeResponse}}},
		"negative months":    {Embedder: &wordEmbedder{dimensions: 8}, KeepMonths: -1},
	} {
		_, err := vectorsearch.New(log.Store, config)
		require.ErrorIs(t, err, eventstore.ErrInvalid, name)
	}
}
