package wordvectors

import (
	"bytes"
	"context"
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/vectorsearch"
)

func open(t *testing.T) *Embedder {
	t.Helper()
	e, err := New()
	require.NoError(t, err)
	return e
}

func embed(t *testing.T, e *Embedder, texts ...string) [][]float32 {
	t.Helper()
	vectors, _, err := e.Embed(t.Context(), texts)
	require.NoError(t, err)
	return vectors
}

func TestModel(t *testing.T) {
	t.Parallel()
	model := open(t).Model()
	require.Regexp(t, "^[0-9a-f]{12}$", model.Revision)
	model.Revision = ""
	require.Equal(t, vectorsearch.Model{Name: "glove100-sif", Dimensions: 100, MaxTexts: 1000, MaxBytes: 8000}, model)
	_, err := vectorsearch.CheckModel(model)
	require.NoError(t, err)
}

func TestMeaningIsNear(t *testing.T) {
	t.Parallel()
	vectors := embed(t, open(t), "How much may it cost?", "The price is about twelve euros.", "The buttons are made of rubber.")
	require.Greater(t, cosine(vectors[0], vectors[1]), cosine(vectors[0], vectors[2])+.2)
}

func TestVectorsHoldTheContract(t *testing.T) {
	t.Parallel()
	e := open(t)
	texts := []string{
		"The price is too high.", "the PRICE is too high", "the", "...", "?", "🙂", "Xyzzyqq", "opakowaniach są za duże",
		"don't", "it's", "'", "{vocalsound}", "\x00\xff\xfe", string(bytes.Repeat([]byte("long "), 1600)),
	}
	vectors, usage, err := e.Embed(t.Context(), texts)
	require.NoError(t, err)
	require.NoError(t, vectorsearch.CheckVectors(e.Model(), texts, vectors))
	for i, vector := range vectors {
		require.InDelta(t, 1, math.Sqrt(cosine(vector, vector)), 1e-5, texts[i])
	}
	require.Equal(t, vectors[0], vectors[1])
	require.Equal(t, int64(5+5+1+1+4+1+1+1600), usage.Tokens)
	require.Zero(t, usage.CostUSD)

	none, _, err := e.Embed(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestUnknownWords(t *testing.T) {
	t.Parallel()
	vectors := embed(t, open(t), "price", "price xyzzyqq", "don't", "do", "opakowaniach", "opakowanie", "kolorów")
	require.Equal(t, vectors[0], vectors[1], "an unknown word beside a known one is skipped")
	require.Equal(t, vectors[2], vectors[3])
	require.Greater(t, cosine(vectors[4], vectors[5]), .5, "unknown texts are near by their letters")
	require.Less(t, cosine(vectors[4], vectors[6]), .3)
}

func TestEmptyText(t *testing.T) {
	t.Parallel()
	for _, empty := range []string{"", " \n\t"} {
		vectors, _, err := open(t).Embed(t.Context(), []string{"something", empty, "more"})
		var refused *vectorsearch.TextError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, 1, refused.Index)
		require.Nil(t, vectors)
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := open(t).Embed(ctx, []string{"something"})
	require.ErrorIs(t, err, context.Canceled)
}

func TestConcurrentCallsAgree(t *testing.T) {
	t.Parallel()
	e := open(t)
	texts := []string{"What did they say about the remote control?", "xyzzyqq", "Yeah."}
	want := embed(t, open(t), texts...)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				got, _, err := e.Embed(context.WithoutCancel(t.Context()), texts)
				if err != nil || !equal(want, got) {
					t.Errorf("other vectors than the first time, or %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func equal(a, b [][]float32) bool {
	for i := range a {
		for k := range a[i] {
			if a[i][k] != b[i][k] {
				return false
			}
		}
	}
	return len(a) == len(b)
}

func TestTable(t *testing.T) {
	t.Parallel()
	vector := make([]float32, dimensions)
	for k := range vector {
		vector[k] = float32(k-50) / 7
	}
	var file bytes.Buffer
	require.NoError(t, encode(&file, []word{{"one", vector}, {"nought", make([]float32, dimensions)}}))
	words, err := decode(bytes.NewReader(file.Bytes()))
	require.NoError(t, err)
	require.Len(t, words, 2)
	require.Equal(t, "one", words[0].text)
	require.InDeltaSlice(t, vector, words[0].vector, 50./7/maxLevel/2+1e-6)
	require.Equal(t, word{"nought", make([]float32, dimensions)}, words[1])

	for cut := range file.Len() {
		_, err := decode(bytes.NewReader(file.Bytes()[:cut]))
		require.Error(t, err, "cut after %d bytes", cut)
	}
}

func BenchmarkEmbed(b *testing.B) {
	e, err := New()
	require.NoError(b, err)
	texts := []string{"I think that the price of the remote control should be about twelve euros, shouldn't it?"}
	for b.Loop() {
		_, _, _ = e.Embed(b.Context(), texts)
	}
}
