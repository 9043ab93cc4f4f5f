package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/examples/internal/program"
)

func TestFirstProjection(t *testing.T) {
	t.Parallel()
	require.Equal(t, "ann said 3 words\n", program.Output(t))
}
