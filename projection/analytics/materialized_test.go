package analytics_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/synthetic"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// Guarantee A4: what a refresh keeps up by parts is what a materialized view computes in full, and stays so.
func TestMaterializedViewsHoldTheSameRows(t *testing.T) {
	t.Parallel()
	const zone = "America/New_York"
	custom := analytics.Aggregate{
		Name: "busiest_days", By: analytics.ByDay, Key: []string{"date"}, Grain: "A row a day.",
		Columns: []analytics.Column{
			{Name: "date", Type: "date NOT NULL", Comment: "Day."},
			{Name: "interactions", Type: "bigint NOT NULL CHECK (interactions > 0)", Comment: "Interactions."},
		},
		SQL: `WITH d AS (SELECT date, total_interactions FROM {{daily_active_personas}} WHERE date = ANY ($1)) SELECT date, sum(total_interactions) FROM d GROUP BY 1`,
	}
	log := newLog(t)
	star, err := analytics.New(log.Store, analytics.Config{TimeZone: zone, Aggregates: []analytics.Aggregate{custom}})
	require.NoError(t, err)
	events := slices.Collect(synthetic.New(small(zones()[zone], 1200)).Events())
	importAll(t, log.Store, events[:600])
	advance(t, log, star)
	views := map[string][]string{"busiest_days": {"date"}}
	for table, key := range keys() {
		if !strings.HasPrefix(table, "fact_") && !strings.HasPrefix(table, "dim_") && table != "cohort_members" {
			views[table] = key
		}
	}
	for table := range views {
		sql, err := star.MaterializedView(table, "mv_"+table)
		require.NoError(t, err)
		_, err = log.Pool.Exec(t.Context(), sql)
		require.NoError(t, err, "%s", sql)
	}
	importAll(t, log.Store, events[600:])
	correct(t, log)
	advance(t, log, star)
	for before := ""; before != todayIn(t, log, zone); { // else midnight has passed meanwhile
		before = todayIn(t, log, zone)
		_, err = star.Refresh(t.Context())
		require.NoError(t, err)
		for table := range views {
			_, err := log.Pool.Exec(t.Context(), `REFRESH MATERIALIZED VIEW CONCURRENTLY `+log.Schema()+`.mv_`+table)
			require.NoError(t, err)
		}
	}
	for table, key := range views {
		requireSameRows(t, log, table, key)
	}
}

func TestAMaterializedViewOfNothingIsRefused(t *testing.T) {
	t.Parallel()
	star, err := analytics.New(newLog(t).Store, analytics.Config{})
	require.NoError(t, err)
	for _, names := range [][2]string{{"no_such", "v"}, {"dim_personas", "v"}, {"daily_active_personas", "V; DROP"}, {"daily_active_personas", ""}} {
		_, err := star.MaterializedView(names[0], names[1])
		require.ErrorIs(t, err, eventstore.ErrInvalid, "%v", names)
	}
}
