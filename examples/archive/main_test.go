package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/examples/internal/command"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
)

// The program archives the demo's month and brings it back, and the README shows what it prints.
func TestTheDemosMonth(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	require.NoError(t, run(t.Context(), command.Recordings(), t.TempDir(), &out))
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	require.Contains(t, string(readme), "\n"+out.String(), "the README shows another output")
}

func TestARealRecording(t *testing.T) {
	t.Parallel()
	corpustest.EachRecording(t, func(t *testing.T, path string) {
		t.Parallel()
		var out strings.Builder
		require.NoError(t, run(t.Context(), []string{path}, t.TempDir(), &out))
		require.Contains(t, out.String(), "events as before: true")
	})
}
