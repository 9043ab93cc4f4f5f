package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/examples/internal/program"
)

func TestOpenTelemetry(t *testing.T) {
	t.Parallel()
	require.Equal(t, "hindsight.projection.events 2\n", program.Output(t))
}
