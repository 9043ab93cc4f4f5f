package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/vectorsearch"
)

// The program answers questions about the demo's recordings, and the README shows what it prints.
func TestSearch(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	questions := strings.NewReader("Why do people leave at the checkout?\n\n?!\nkolory opakowań\n")
	require.NoError(t, run(t.Context(), nil, vectorsearch.Query{K: 2, Context: 1}, questions, &out))
	answers := strings.Split(out.String(), "\n? ")
	require.Len(t, answers, 4, out.String())
	require.Regexp(t, `^Indexed in [0-9.]+ s\.`, answers[0])
	require.Contains(t, answers[2], "has no letter")
	require.Contains(t, answers[3], "kolory i małe opakowania")
	require.Contains(t, answers[3], "complete, as of position 78")

	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	require.Contains(t, string(readme), "\n? "+answers[1], "the README shows another output")
}

func TestSearchOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), []string{"nowhere.ndjson"}, vectorsearch.Query{}, strings.NewReader(""), &bytes.Buffer{})
	require.ErrorIs(t, err, os.ErrNotExist)

	var query vectorsearch.Query
	require.ErrorIs(t, query.Filter.Set("colour", "red"), eventstore.ErrInvalid)
}

// A filter leaves out what does not pass it, and the answer says as of when it is.
func TestSearchWithAFilter(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	query := vectorsearch.Query{K: 5, Filter: vectorsearch.Filter{Languages: []string{"pl"}}}
	require.NoError(t, run(t.Context(), nil, query, strings.NewReader("checkout"), &out))
	require.NotContains(t, out.String(), "2026-10-14", "that is the English one")
}
