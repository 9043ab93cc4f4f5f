package main

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/synthetic"
)

// What is measured as a dashboard's question has an index to go by.
func TestDashboardQuestionsUseIndexes(t *testing.T) {
	t.Parallel()
	log := eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
	from := time.Date(2024, 10, 1, 0, 0, 0, 0, time.UTC)
	star, runner, _, err := open(t.Context(), log.Pool, log.Schema(), synthetic.Config{Personas: 20, Users: 6, Projects: 8, Months: 3, From: from, Events: 500})
	require.NoError(t, err)
	_, err = build(t.Context(), runner)
	require.NoError(t, err)
	_, err = star.Refresh(t.Context())
	require.NoError(t, err)
	asked := 0
	require.NoError(t, pgx.BeginFunc(t.Context(), log.Pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `SET LOCAL enable_seqscan = off`) // the tables are small
		require.NoError(t, err)
		for _, q := range questions() {
			if q.atMost != dashboard {
				continue
			}
			asked++
			sql := strings.ReplaceAll(replace(q.sql, "p1", "a1"), "star.", log.Schema()+".")
			lines, err := tx.Query(t.Context(), `EXPLAIN (COSTS OFF) `+sql, pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err, q.name)
			plan, err := collect(lines)
			require.NoError(t, err, q.name)
			require.Regexp(t, `Index|Bitmap`, strings.Join(plan, "\n"), q.name)
			require.NotContains(t, strings.Join(plan, "\n"), "Seq Scan", q.name)
		}
		return nil
	}))
	require.Equal(t, 9, asked)
}
