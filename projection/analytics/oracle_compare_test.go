package analytics_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// keys name the rows of the tables.
func keys() map[string][]string {
	return map[string][]string{
		"fact_persona_interactions": {"position"}, "fact_llm_usage": {"position"}, "fact_discussion_turns": {"position"},
		"fact_survey_answers": {"position", "line"}, "fact_focus_group_sessions": {"position"},
		"dim_personas": {"persona_id"}, "dim_users": {"user_id"}, "dim_projects": {"project_id"}, "dim_date": {"day"},
		"dim_persona_history": {"persona_id", "from_position"}, "dim_user_history": {"user_id", "from_position"}, "dim_project_history": {"project_id", "from_position"},
		"daily_active_personas": {"date", "project_id"}, "daily_active_users": {"date", "project_id"},
		"weekly_active_personas": {"week", "project_id"}, "weekly_active_users": {"week", "project_id"},
		"daily_llm_costs": {"date", "project_id", "model"}, "focus_group_effectiveness": {"date", "project_id"},
		"project_health_scores": {"date", "project_id"},
		"weekly_activity":       {"week", "project_id", "member", "member_id"}, "cohort_members": {"project_id", "member", "member_id"},
		"weekly_retention_cohorts": {"project_id", "member", "cohort_week", "week_n"},
		"persona_diversity":        {"project_id", "attribute", "value"}, "persona_evenness": {"project_id", "attribute"},
	}
}

// requireOracle refreshes the aggregates, and asks that all tables hold what the oracle computes from the log.
func requireOracle(t testing.TB, log *eventstoretest.Log, star *analytics.Star, zone string) {
	t.Helper()
	for {
		before := todayIn(t, log, zone)
		_, err := star.Refresh(t.Context())
		require.NoError(t, err)
		if todayIn(t, log, zone) == before { // else midnight has passed meanwhile
			requireTables(t, log, foretell(t, log, zone, before))
			return
		}
	}
}

func todayIn(t testing.TB, log *eventstoretest.Log, zone string) (today string) {
	t.Helper()
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT (clock_timestamp() AT TIME ZONE $1)::date::text`, zone).Scan(&today))
	return today
}

func requireTables(t testing.TB, log *eventstoretest.Log, want map[string][]row) {
	t.Helper()
	for table, key := range keys() {
		got := index(t, table, key, readTable(t, log, table))
		expected := index(t, table, key, want[table])
		var wrong []string
		for k, e := range expected {
			if g, ok := got[k]; !ok {
				wrong = append(wrong, fmt.Sprintf("missing %s: %v", k, e))
			} else if d := difference(g, e); d != "" {
				wrong = append(wrong, k+": "+d)
			}
		}
		for k, g := range got {
			if _, ok := expected[k]; !ok {
				wrong = append(wrong, fmt.Sprintf("too many %s: %v", k, g))
			}
		}
		slices.Sort(wrong)
		if len(wrong) > 0 {
			t.Errorf("%s: %d of %d rows are wrong:\n%s", table, len(wrong), len(expected), strings.Join(wrong[:min(len(wrong), 5)], "\n"))
		}
	}
}

// readTable reads a table's rows as JSON has them.
func readTable(t testing.TB, log *eventstoretest.Log, table string) []row {
	t.Helper()
	rows, err := log.Pool.Query(t.Context(), `SELECT to_jsonb(r)::text FROM `+log.Schema()+`.`+table+` AS r`)
	require.NoError(t, err)
	texts, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	require.NoError(t, err)
	found := make([]row, len(texts))
	for i, text := range texts {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		require.NoError(t, decoder.Decode(&found[i]))
	}
	return found
}

func index(t testing.TB, table string, key []string, rows []row) map[string]row {
	t.Helper()
	found := make(map[string]row, len(rows))
	for _, r := range rows {
		var parts []string
		for _, k := range key {
			parts = append(parts, fmt.Sprintf("%q", fmt.Sprint(r[k])))
		}
		name := strings.Join(parts, " ")
		if _, twice := found[name]; twice {
			t.Errorf("%s has the key %s twice", table, name)
		}
		found[name] = r
	}
	return found
}

func difference(got, want row) string {
	var columns []string
	for column := range want {
		columns = append(columns, column)
	}
	for column := range got {
		if _, ok := want[column]; !ok {
			columns = append(columns, column)
		}
	}
	slices.Sort(columns)
	for _, column := range columns {
		g, there := got[column]
		w, wanted := want[column]
		if !there || !wanted || !same(g, w) {
			return fmt.Sprintf("%s is %v (%T, there: %v), want %v (%T, wanted: %v)", column, g, g, there, w, w, wanted)
		}
	}
	return ""
}

// same compares what JSON has with what Go has: numbers within 1e-9 of their size, times as instants.
func same(got, want any) bool {
	switch w := want.(type) {
	case time.Time:
		text, _ := got.(string)
		at, err := time.Parse(time.RFC3339Nano, text)
		return err == nil && at.Equal(w)
	case int:
		return same(got, int64(w))
	case int64:
		number, _ := got.(json.Number)
		n, err := number.Int64()
		return err == nil && n == w
	case float64:
		number, _ := got.(json.Number)
		f, err := number.Float64()
		return err == nil && math.Abs(f-w) <= 1e-9*max(math.Abs(f), math.Abs(w), 1e-3)
	case []any:
		g, ok := got.([]any)
		return ok && slices.EqualFunc(g, w, same)
	case map[string]any:
		g, ok := got.(map[string]any)
		return ok && difference(g, w) == ""
	}
	return got == want
}

// requireSameRows asks that an aggregate's materialized view has its rows, with columns of the same types.
func requireSameRows(t testing.TB, log *eventstoretest.Log, table string, key []string) {
	t.Helper()
	got, want := index(t, table, key, readTable(t, log, "mv_"+table)), index(t, table, key, readTable(t, log, table))
	require.NotEmpty(t, want, table)
	require.Len(t, got, len(want), table)
	for name, w := range want {
		require.Contains(t, got, name)
		for column, value := range w {
			if number, ok := value.(json.Number); ok && strings.ContainsAny(number.String(), ".e") {
				f, err := number.Float64()
				require.NoError(t, err)
				w[column] = f
			}
		}
		require.Empty(t, difference(got[name], w), "%s %s", table, name)
	}
	var columns int
	require.NoError(t, log.Pool.QueryRow(t.Context(), `
SELECT count(*) FROM pg_attribute a JOIN pg_attribute v ON v.attrelid = ($1 || '.mv_' || $2)::regclass AND v.attnum = a.attnum AND v.attname = a.attname AND v.atttypid = a.atttypid
 WHERE a.attrelid = ($1 || '.' || $2)::regclass AND a.attnum > 0`, log.Schema(), table).Scan(&columns))
	for _, r := range want {
		require.Equal(t, len(r), columns, "%s: columns of the same name and type", table)
		break
	}
}
