package analytics_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// appendThisWeek appends a persona of now, and a discussion of three days ago.
func appendThisWeek(t testing.TB, log *eventstoretest.Log) {
	t.Helper()
	persona := smallPersona(0)
	persona.PersonaID = "a7"
	appendAt(t, log, focusgroup.PersonaStream("a7"), time.Now(), persona)
	appendDiscussion(t, log, "discussion-7", time.Now().AddDate(0, 0, -3), "p1", true)
}

func TestFreshnessOfAggregates(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	star, err := analytics.New(log.Store, analytics.Config{})
	require.NoError(t, err)
	runUntilSettled(t, log, star)
	const name = "aggregates.freshness"
	fresh := func(outcome analytics.Outcome, severity analytics.Severity) analytics.Result {
		t.Helper()
		result := resultOf(t, checked(t, star), name)
		require.Equal(t, outcome, result.Outcome, result)
		require.Equal(t, severity, result.Severity)
		return result
	}
	marked := func(ago string) {
		tamper(t, log, `UPDATE analytics_dirty_v1 SET marked_at = now() - interval '`+ago+`' WHERE project_id = 'p2'`)
	}
	fresh(analytics.Passed, "")
	marked("9 minutes")
	fresh(analytics.Passed, "")
	marked("11 minutes")
	require.Contains(t, fresh(analytics.Failed, analytics.SeverityWarn).Note, "no refresh ran yet, the oldest mark was left at 2")
	marked("61 minutes")
	require.EqualValues(t, 61, fresh(analytics.Failed, analytics.SeverityError).Failing)
	refreshed, err := star.Refresh(t.Context())
	require.NoError(t, err)
	require.Contains(t, fresh(analytics.Passed, "").Note, "the last refresh ran at "+refreshed.Today.Format("2006-01"))

	// A day has begun: nothing is marked, and yet the days that look back have no row.
	tamper(t, log, `UPDATE analytics_refreshed_v1 SET today = today - 2`)
	require.GreaterOrEqual(t, fresh(analytics.Failed, analytics.SeverityError).Failing, int64(24*60))
	_, err = star.Refresh(t.Context())
	require.NoError(t, err)
	fresh(analytics.Passed, "")

	patient, err := analytics.New(log.Store, analytics.Config{Checks: []analytics.Check{{Name: name, Warn: 100_000}}})
	require.NoError(t, err)
	tamper(t, log, `UPDATE analytics_refreshed_v1 SET today = today - 2`)
	require.Equal(t, analytics.Passed, resultOf(t, checked(t, patient), name).Outcome, "who refreshes once a week says so")
}

// The days that look back are checked as far as the last refresh computed them, whatever is dated after it.
func TestTheHealthOfTheseDaysIsChecked(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendThisWeek(t, log)
	star := builtStar(t, log, analytics.Config{})
	const name = "project_health_scores.agrees"
	result := resultOf(t, checked(t, star), name)
	require.Equal(t, analytics.Passed, result.Outcome, "a star of three days is checked")
	require.GreaterOrEqual(t, result.Total, int64(4))

	later := focusgroup.PersonaEdited{PersonaID: "a7", ProjectID: "p1", UserID: "u1", Name: "Gus", DurationSeconds: 5}
	appendAt(t, log, focusgroup.PersonaStream("a7"), time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC), later)
	runUntilSettled(t, log, star)
	_, err := star.Refresh(t.Context())
	require.NoError(t, err)
	require.GreaterOrEqual(t, resultOf(t, checked(t, star), name).Total, int64(4), "a day far ahead hides none of these")

	for _, newest := range []string{"0", "1"} {
		tamper(t, log, `UPDATE project_health_scores_v1 SET recency = recency + 1 WHERE date = (SELECT today - `+newest+` FROM analytics_refreshed_v1)`)
		result = resultOf(t, checked(t, star), name)
		require.Equal(t, analytics.Failed, result.Outcome, result)
		require.EqualValues(t, 1, result.Failing)
		tamper(t, log, `UPDATE project_health_scores_v1 SET recency = recency - 1 WHERE recency > 1`)
	}

	// What a mark covers may differ.
	tamper(t, log, `UPDATE project_health_scores_v1 SET recency = recency + 1 WHERE date = (SELECT today FROM analytics_refreshed_v1)`,
		`INSERT INTO analytics_dirty_v1 SELECT today - interval '1 day', 'p1' FROM analytics_refreshed_v1`)
	require.Equal(t, analytics.Passed, resultOf(t, checked(t, star), name).Outcome)
}

func TestAnAggregateWithoutRowsIsSkipped(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendAt(t, log, focusgroup.PersonaStream("a1"), time.Now(), smallPersona(0))
	star, err := analytics.New(log.Store, analytics.Config{})
	require.NoError(t, err)
	runUntilSettled(t, log, star)
	require.Contains(t, resultOf(t, checked(t, star), "focus_group_effectiveness.agrees").Note, "never refreshed")
	_, err = star.Refresh(t.Context())
	require.NoError(t, err)
	report := checked(t, star)
	result := resultOf(t, report, "focus_group_effectiveness.agrees")
	require.Equal(t, analytics.Skipped, result.Outcome)
	require.Contains(t, result.Note, "neither stored nor computed")
	tamper(t, log, `DELETE FROM daily_active_personas_v1`)
	report = checked(t, star)
	result = resultOf(t, report, "daily_active_personas.agrees")
	require.Equal(t, analytics.Failed, result.Outcome, "rows are computed that are not stored")
	require.EqualValues(t, 1, result.Failing)
	require.EqualValues(t, 1, result.Total)
}

// Cohorts are judged as of the last refresh, all cells of them, whatever has changed since.
func TestWrongCohortsAreFound(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	appendThisWeek(t, log)
	star := builtStar(t, log, analytics.Config{})
	tamper(t, log, `CREATE TABLE kept AS SELECT * FROM weekly_retention_cohorts_v1`, `INSERT INTO analytics_dirty_v1 VALUES ('2025-03-04 12:00Z', 'p1')`)
	const name = "weekly_retention_cohorts.agrees"
	result := resultOf(t, checked(t, star), name)
	require.Equal(t, analytics.Passed, result.Outcome, "with a mark")
	all := result.Total
	require.Positive(t, all)
	for _, c := range []struct {
		about, breaks string
		failing       int64
	}{
		{"a count", `UPDATE weekly_retention_cohorts_v1 SET active = active + 1 WHERE project_id = 'p1' AND member = 'user' AND cohort_week = '2025-03-03' AND week_n = 1`, 1},
		{"a share", `UPDATE weekly_retention_cohorts_v1 SET retention = retention / 2 WHERE project_id = 'p1' AND member = 'user' AND cohort_week = '2025-03-03' AND week_n = 1`, 1},
		{"a size", `UPDATE weekly_retention_cohorts_v1 SET cohort_size = 9 WHERE project_id = 'p1' AND member = 'user' AND cohort_week = '2025-03-03' AND week_n = 3`, 1},
		{"a week that has not ended", `UPDATE weekly_retention_cohorts_v1 SET active = 0 WHERE ctid = (SELECT ctid FROM weekly_retention_cohorts_v1 WHERE active IS NULL LIMIT 1)`, 1},
		{"a week that has ended", `UPDATE weekly_retention_cohorts_v1 SET active = NULL, retention = NULL WHERE ctid = (SELECT ctid FROM weekly_retention_cohorts_v1 WHERE active = 0 LIMIT 1)`, 1},
		{"a cell too many", `INSERT INTO weekly_retention_cohorts_v1 VALUES ('p1', 'user', '2020-01-06', 0, 1, 1, 1)`, 1},
		{"all", `DELETE FROM weekly_retention_cohorts_v1`, all},
	} {
		tamper(t, log, c.breaks)
		result := resultOf(t, checked(t, star), name)
		require.Equal(t, analytics.Failed, result.Outcome, c.about)
		require.Equal(t, c.failing, result.Failing, c.about)
		tamper(t, log, `DELETE FROM weekly_retention_cohorts_v1`, `INSERT INTO weekly_retention_cohorts_v1 SELECT * FROM kept`)
	}

	// What a refresh could not compute is known to be behind.
	tamper(t, log, `INSERT INTO analytics_dirty_v1 (at, project_id, aggregate) VALUES ('2025-03-10 12:00Z', '', 'weekly_retention_cohorts'), ('2025-03-10 12:00Z', '', 'weekly_active_users')`,
		`UPDATE weekly_retention_cohorts_v1 SET active = active + 1 WHERE cohort_week > '2025-03-10' OR cohort_week + 7 * week_n = '2025-03-10'`,
		`UPDATE weekly_active_users_v1 SET active_users = 9`, `UPDATE weekly_active_personas_v1 SET active_personas = 9`)
	report := checked(t, star)
	require.Equal(t, analytics.Passed, resultOf(t, report, name).Outcome)
	users, personas := resultOf(t, report, "weekly_active_users.agrees"), resultOf(t, report, "weekly_active_personas.agrees")
	require.Equal(t, users.Total+2, personas.Total, "what an aggregate of its own is behind in the others are not: two projects")
	require.Equal(t, users.Failing+2, personas.Failing)
	tamper(t, log, `UPDATE weekly_retention_cohorts_v1 SET active = active + 1 WHERE cohort_week = '2025-03-03' AND week_n = 0`)
	require.Equal(t, analytics.Failed, resultOf(t, checked(t, star), name).Outcome)
}
