package vectorsearch_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/vectorsearch"
)

func TestCheckModelFillsDefaults(t *testing.T) {
	t.Parallel()
	model, err := vectorsearch.CheckModel(vectorsearch.Model{Name: "text-embedding-3-small", Dimensions: 1536})
	require.NoError(t, err)
	require.Equal(t, vectorsearch.Model{Name: "text-embedding-3-small", Dimensions: 1536, MaxTexts: 100, MaxBytes: 8000}, model)

	given := vectorsearch.Model{Name: "słowa", Revision: "2026 11", Dimensions: 4000, MaxTexts: 1, MaxBytes: 20}
	model, err = vectorsearch.CheckModel(given)
	require.NoError(t, err)
	require.Equal(t, given, model)
}

func TestCheckModelRefuses(t *testing.T) {
	t.Parallel()
	const name, revision = "Model.Name is over 200 bytes or not printable", "Model.Revision is over 200 bytes or not printable"
	for _, c := range []struct {
		err    string
		change func(*vectorsearch.Model)
	}{
		{"Model.Name is empty", func(m *vectorsearch.Model) { m.Name = "" }},
		{name, func(m *vectorsearch.Model) { m.Name = strings.Repeat("n", 201) }},
		{name, func(m *vectorsearch.Model) { m.Name = "a\x00b" }},
		{name, func(m *vectorsearch.Model) { m.Name = "a\xffb" }},
		{revision, func(m *vectorsearch.Model) { m.Revision = "a\nb" }},
		{"Model.Dimensions are 0, 1 to 4000 are allowed", func(m *vectorsearch.Model) { m.Dimensions = 0 }},
		{"Model.Dimensions are -3, 1 to 4000 are allowed", func(m *vectorsearch.Model) { m.Dimensions = -3 }},
		{"Model.Dimensions are 4001, 1 to 4000 are allowed", func(m *vectorsearch.Model) { m.Dimensions = 4001 }},
		{"Model.MaxTexts is negative", func(m *vectorsearch.Model) { m.MaxTexts = -1 }},
		{"Model.MaxBytes is negative", func(m *vectorsearch.Model) { m.MaxBytes = -1 }},
	} {
		model := vectorsearch.Model{Name: "m", Revision: "r", Dimensions: 3}
		c.change(&model)
		_, err := vectorsearch.CheckModel(model)
		require.ErrorIs(t, err, eventstore.ErrInvalid)
		require.EqualError(t, err, c.err)
	}
}

func TestCheckVectors(t *testing.T) {
	t.Parallel()
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	good := []float32{0, 1, -2}
	for _, c := range []struct {
		name    string
		vectors [][]float32
		text    int    // whose fault it is; -1: the answer's
		err     string // empty: none
	}{
		{"as asked for", [][]float32{good, {0, 0, math.SmallestNonzeroFloat32}}, 0, ""},
		{"too few", [][]float32{good}, -1, "unusable answer: 1 vectors for 2 texts"},
		{"too many", [][]float32{good, good, good}, -1, "unusable answer: 3 vectors for 2 texts"},
		{"none", nil, -1, "unusable answer: 0 vectors for 2 texts"},
		{"too long", [][]float32{good, {1, 2, 3, 4}}, -1, "unusable answer: vector 1 has 4 dimensions, those of m have 3"},
		{"missing", [][]float32{nil, good}, -1, "unusable answer: vector 0 has 0 dimensions, those of m have 3"},
		{"NaN", [][]float32{good, {1, nan, 0}}, 1, "text 1 cannot be embedded: its vector has NaN in dimension 1"},
		{"infinite", [][]float32{{inf, 0, 0}, good}, 0, "text 0 cannot be embedded: its vector has +Inf in dimension 0"},
		{"minus infinite", [][]float32{good, {0, 0, -inf}}, 1, "text 1 cannot be embedded: its vector has -Inf in dimension 2"},
		{"zero", [][]float32{good, {0, 0, float32(math.Copysign(0, -1))}}, 1, "text 1 cannot be embedded: its vector is all zeros"},
		{"an answer's fault before a text's", [][]float32{{0, 0, 0}, {1}}, -1, "unusable answer: vector 1 has 1 dimensions, those of m have 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := vectorsearch.CheckVectors(vectorsearch.Model{Name: "m", Dimensions: 3}, []string{"a", "b"}, c.vectors)
			if c.err == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, c.err)
			var text *vectorsearch.TextError
			var answer *vectorsearch.VectorError
			require.Equal(t, c.text < 0, errors.As(err, &answer))
			require.Equal(t, c.text >= 0, errors.As(err, &text))
			if text != nil {
				require.Equal(t, c.text, text.Index)
			}
		})
	}
	require.NoError(t, vectorsearch.CheckVectors(vectorsearch.Model{Name: "m", Dimensions: 3}, nil, nil))
}

func TestErrorsNameTheirCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("HTTP 429: slow down")
	for text, err := range map[string]error{
		"the embedding service's rate limit, for 20s: HTTP 429: slow down": &vectorsearch.RateLimitError{After: 20 * time.Second, Err: cause},
		"text 3 cannot be embedded: HTTP 429: slow down":                   &vectorsearch.TextError{Index: 3, Err: cause},
		"unusable answer: no JSON: HTTP 429: slow down":                    &vectorsearch.VectorError{Reason: "no JSON", Err: cause},
	} {
		require.EqualError(t, err, text)
		require.ErrorIs(t, err, cause)
	}
	require.EqualError(t, &vectorsearch.RateLimitError{}, "the embedding service's rate limit")
}
