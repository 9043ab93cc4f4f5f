package eventstoretest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// Logs do not see each other, an unqualified name finds nothing, and a closed log leaves no schema behind.
func TestLogsAreIndependentAndLeaveNothing(t *testing.T) {
	t.Parallel()
	one := eventstoretest.New(t, eventstore.Config{})
	two, err := eventstoretest.Open(t.Context(), eventstore.Config{})
	require.NoError(t, err)
	_, err = two.Append(t.Context(), "a-1", eventstore.NoStream, eventstore.Raw{Type: "x", JSON: []byte(`{}`)})
	require.NoError(t, err)
	require.Len(t, eventstoretest.Collect(t, two.All(t.Context(), 0, eventstore.Filter{})), 1)
	require.Empty(t, eventstoretest.Collect(t, one.All(t.Context(), 0, eventstore.Filter{})))
	_, err = two.Pool.Exec(t.Context(), `SELECT FROM events`)
	require.ErrorContains(t, err, "does not exist")

	require.NoError(t, two.Close(t.Context()))
	var left int
	require.NoError(t, one.Pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname = $1`, two.Schema()).Scan(&left))
	require.Zero(t, left)
}
