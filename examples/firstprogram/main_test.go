package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/examples/internal/program"
)

// The program runs as a new user would run it, on a server of its own (it uses the default schema), and it is the one
// that the README shows, with the output shown there.
func TestFirstProgramIsTheREADMEs(t *testing.T) {
	t.Parallel()
	output := program.Output(t)
	require.Equal(t, "1 discussion_started\n2 response\nrunning Ann said 3 words\n", output)

	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	source, err := os.ReadFile("main.go")
	require.NoError(t, err)
	require.True(t, strings.Contains(string(readme), "```go\n"+string(source)+"```\n"), "the README shows another program")
	require.Contains(t, string(readme), output)
}
