package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/internal/devdb"
)

// The program runs as a new user would run it, on a server of its own (it uses the default schema), and it is the one
// that the README shows, with the output shown there.
func TestFirstProgramIsTheREADMEs(t *testing.T) {
	t.Parallel()
	cluster, err := devdb.StartCluster(t.Context(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	program := exec.CommandContext(t.Context(), "go", "run", ".")
	program.Env = append(os.Environ(), "DATABASE_URL="+cluster.URL())
	output, err := program.CombinedOutput()
	require.NoError(t, err, string(output))
	require.Equal(t, "1 discussion_started\n2 response\nrunning Ann said 3 words\n", string(output))

	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	source, err := os.ReadFile("main.go")
	require.NoError(t, err)
	require.True(t, strings.Contains(string(readme), "```go\n"+string(source)+"```\n"), "the README shows another program")
	require.Contains(t, string(readme), string(output))
}
