package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/examples/internal/program"
)

func TestCustomFact(t *testing.T) {
	t.Parallel()
	require.Equal(t, "Greenlid was named 2 times\n", program.Output(t))
}
