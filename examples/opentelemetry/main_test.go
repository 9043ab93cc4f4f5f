package main

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/internal/devdb"
)

func TestOpenTelemetry(t *testing.T) {
	t.Parallel()
	cluster, err := devdb.StartCluster(t.Context(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	program := exec.CommandContext(t.Context(), "go", "run", ".")
	program.Env = append(os.Environ(), "DATABASE_URL="+cluster.URL())
	output, err := program.CombinedOutput()
	require.NoError(t, err, string(output))
	require.Equal(t, "hindsight.projection.events 2\n", string(output))
}
