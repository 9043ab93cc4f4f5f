package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestImportTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `left out: row 42: column event_data: is NULL
1000 of 2500 rows
2000 of 2500 rows
2500 of 2500 rows
2499 events, 1 rows left out
discussion-7: 25 events, Ann said 100 words
again: 0 events, 2499 in all
`, out.String())
}
