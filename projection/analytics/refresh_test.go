package analytics_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// byDay declares an aggregate of one number a day.
func byDay(name, sql string) analytics.Aggregate {
	return analytics.Aggregate{
		Name: name, By: analytics.ByDay, Key: []string{"date"}, Grain: "A row a day.", SQL: sql,
		Columns: []analytics.Column{{Name: "date", Type: "date NOT NULL", Comment: "Day."}, {Name: "n", Type: "bigint NOT NULL", Comment: "A number."}},
	}
}

// values of an aggregate of one number a day, or of a column of another.
func values(t testing.TB, log *eventstoretest.Log, table string) map[string]int64 {
	t.Helper()
	rows, err := log.Pool.Query(t.Context(), `SELECT date::text, n FROM `+log.Schema()+`.`+table)
	require.NoError(t, err)
	type value struct {
		Date string
		N    int64
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[value])
	require.NoError(t, err)
	all := map[string]int64{}
	for _, v := range found {
		all[v.Date] = v.N
	}
	return all
}

// markedFor lists the aggregates and days whose marks wait.
func markedFor(t testing.TB, log *eventstoretest.Log) []string {
	t.Helper()
	rows, err := log.Pool.Query(t.Context(), `SELECT coalesce(aggregate, '') || ' ' || coalesce((at AT TIME ZONE 'UTC')::date::text, project_id) FROM `+log.Schema()+`.analytics_dirty ORDER BY 1`)
	require.NoError(t, err)
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return found
}

// Guarantee A4: a day of which an aggregate cannot be computed keeps nothing else from being computed, is told of, and is tried again,
// with what is made of it.
func TestAPoisonDayStopsNothingElse(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	star, err := analytics.New(log.Store, analytics.Config{Aggregates: []analytics.Aggregate{
		byDay("fragile", `SELECT day, sum(1000 / (duration_seconds::integer - 666)) FROM {{fact_persona_interactions}} WHERE day = ANY ($1) GROUP BY 1`),
		byDay("of_fragile", `SELECT date, 2 * n FROM {{fragile}} WHERE date = ANY ($1)`),
		{
			Name: "fragile_projects", By: analytics.ByProject, Key: []string{"project_id"}, Grain: "A row a project.",
			Columns: []analytics.Column{{Name: "project_id", Type: "text NOT NULL", Comment: "Project."}, {Name: "n", Type: "bigint NOT NULL", Comment: "A number."}},
			SQL:     `SELECT project_id, sum(1000 / (age - 29)) FROM {{dim_personas}} WHERE project_id = ANY ($1) AND age IS NOT NULL GROUP BY 1`, // a2's age, of p1
		},
	}})
	require.NoError(t, err)
	appendWorld(t, log)
	edited := focusgroup.PersonaEdited{PersonaID: "a1", ProjectID: "p1", UserID: "u1", Name: "Anna", DurationSeconds: 766, Attributes: smallPersona(0).Attributes}
	first := smallWorld().AddDate(0, 0, 60)
	for day := range 40 { // more than a transaction takes
		appendAt(t, log, focusgroup.PersonaStream("a1"), first.AddDate(0, 0, day), edited)
	}
	poison := edited
	poison.DurationSeconds = 666
	appendAt(t, log, focusgroup.PersonaStream("a1"), first.AddDate(0, 0, 1), poison)
	advance(t, log, star)
	requireAllButFragile := func(days int) {
		t.Helper()
		today := todayIn(t, log, "UTC")
		_, err = star.Refresh(t.Context())
		var failed *analytics.AggregateError
		require.ErrorAs(t, err, &failed)
		require.Equal(t, "fragile", failed.Aggregate)
		require.Equal(t, 1, failed.Parts)
		require.ErrorContains(t, err, "fragile_projects: 1 parts cannot be computed")
		require.ErrorContains(t, err, "22012")
		if todayIn(t, log, "UTC") == today {
			requireTables(t, log, foretell(t, log, "UTC", today))
		}
		require.Equal(t, []string{"fragile " + first.AddDate(0, 0, 1).Format(time.DateOnly), "fragile_projects p1"}, markedFor(t, log))
		require.Len(t, values(t, log, "fragile"), days)
		require.Len(t, values(t, log, "of_fragile"), days)
		require.Len(t, readTable(t, log, "fragile_projects"), 1, "p2")
	}
	var days int
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT count(DISTINCT day) - 1 FROM `+log.Schema()+`.fact_persona_interactions`).Scan(&days))
	require.Greater(t, days, 40)
	requireAllButFragile(days)
	appendAt(t, log, focusgroup.PersonaStream("a1"), first.AddDate(0, 0, -1), edited) // before the poison
	advance(t, log, star)
	requireAllButFragile(days + 1)

	tamper(t, log, `UPDATE fact_persona_interactions_v1 SET duration_seconds = 766 WHERE duration_seconds = 666`, `UPDATE dim_personas_v1 SET age = 30 WHERE persona_id = 'a2'`)
	_, err = star.Refresh(t.Context())
	require.NoError(t, err)
	require.Empty(t, markedFor(t, log))
	require.Len(t, values(t, log, "fragile"), days+2)
	require.EqualValues(t, 20, values(t, log, "fragile")[first.AddDate(0, 0, 1).Format(time.DateOnly)])
	require.EqualValues(t, 40, values(t, log, "of_fragile")[first.AddDate(0, 0, 1).Format(time.DateOnly)])
	require.Len(t, readTable(t, log, "fragile_projects"), 2)
}

// Guarantee A4: a refresh works alone. Who waits long for another process is told so, and loses nothing.
func TestAnotherProcessRefreshes(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	star, err := analytics.New(log.Store, analytics.Config{})
	require.NoError(t, err)
	advance(t, log, star)
	other, err := log.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Rollback(t.Context())) }()
	_, err = other.Exec(t.Context(), `SELECT pg_advisory_xact_lock($1::text::regclass::oid::bigint)`, log.Schema()+".analytics_dirty_v1")
	require.NoError(t, err)
	marked := markedFor(t, log)
	require.NotEmpty(t, marked)
	_, err = star.Refresh(t.Context())
	require.ErrorIs(t, err, analytics.ErrRefreshing)
	require.Equal(t, marked, markedFor(t, log))
}

// Days that look back are computed up to today, whatever an aggregate's SQL does with the days it is given; in a materialized
// view, too.
func TestAReachEndsToday(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	week := byDay("week_behind", `SELECT d, (SELECT count(*) FROM {{fact_persona_interactions}} f WHERE f.day > d - 7 AND f.day <= d) FROM unnest($1) AS d`)
	week.Reach = 6
	star, err := analytics.New(log.Store, analytics.Config{Aggregates: []analytics.Aggregate{week}})
	require.NoError(t, err)
	persona := smallPersona(0)
	appendAt(t, log, focusgroup.PersonaStream("a1"), time.Now().AddDate(0, 0, -2), persona)
	appendAt(t, log, focusgroup.PersonaStream("a1"), time.Now().AddDate(3, 0, 0), focusgroup.PersonaEdited{PersonaID: "a1", ProjectID: "p1"})
	advance(t, log, star)
	sql, err := star.MaterializedView("week_behind", "mv_week_behind")
	require.NoError(t, err)
	_, err = log.Pool.Exec(t.Context(), sql)
	require.NoError(t, err)
	_, err = star.Refresh(t.Context())
	require.NoError(t, err)
	today := todayIn(t, log, "UTC")
	for _, table := range []string{"week_behind", "mv_week_behind"} {
		found := values(t, log, table)
		require.GreaterOrEqual(t, len(found), 3, table)
		for date := range found {
			require.LessOrEqual(t, date, today, table)
		}
	}
}

// Engagement is that of sessions whose invited participants are known.
func TestASessionWithoutAListInflatesNoEngagement(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	at := smallWorld()
	turn := focusgroup.Response{PersonaID: "a1", PersonaName: "Anna", Question: "Why?", Text: "one two three four five"}
	listed := focusgroup.DiscussionStarted{ProjectID: "p", Questions: []string{"Why?"}, Participants: []focusgroup.Participant{{PersonaID: "a1"}, {PersonaID: "a2"}}}
	appendAt(t, log, "discussion-1", at, listed, turn)
	appendAt(t, log, "discussion-2", at, focusgroup.DiscussionStarted{ProjectID: "p"}, turn, turn, turn, turn, turn)
	quality := analytics.Quality{Length: 3, Variety: 1, FullWords: 10}
	builtStar(t, log, analytics.Config{Quality: quality})
	var perQuestion, engagement, response float64
	require.NoError(t, log.Pool.QueryRow(t.Context(), fmt.Sprintf(`SELECT responses_per_participant_question, response_quality, (SELECT engagement FROM %[1]s.project_health_scores h WHERE h.date = e.date)
  FROM %[1]s.focus_group_effectiveness e`, log.Schema())).Scan(&perQuestion, &response, &engagement))
	require.InDelta(t, 0.5, perQuestion, 1e-9)
	require.InDelta(t, 0.5, engagement, 1e-9)
	require.InDelta(t, (3*0.5+1)/4, response, 1e-9, "half of the words, all of them different; on_question weighs nothing")
}

func TestAggregatesThatCannotBeComputedAreRefused(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	for name, config := range map[string]analytics.Config{
		"of itself":       {Aggregates: []analytics.Aggregate{byDay("one", `SELECT * FROM {{one}}`)}},
		"of each other":   {Aggregates: []analytics.Aggregate{byDay("one", `SELECT * FROM {{two}}`), byDay("two", `SELECT * FROM {{one}}`)}},
		"of cohorts":      {Aggregates: []analytics.Aggregate{byDay("one", `SELECT * FROM {{weekly_retention_cohorts}}`)}},
		"not a number":    {Health: analytics.Weights{Recency: math.NaN()}},
		"negative":        {Health: analytics.Weights{Recency: 1, Completion: -1}},
		"infinite":        {Quality: analytics.Quality{Variety: math.Inf(1)}},
		"a negative part": {Quality: analytics.Quality{Length: -0.5}},
		"negative words":  {Quality: analytics.Quality{FullWords: -1}},
	} {
		_, err := analytics.New(log.Store, config)
		require.ErrorIs(t, err, eventstore.ErrInvalid, name)
	}
}

// Kiritimati was 10 hours and 40 minutes behind Greenwich until October 1979: a quarter of an hour of it can hold two days.
func TestAMarkBelongsToOneDay(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	at := time.Date(1979, 6, 1, 10, 41, 0, 0, time.UTC) // one minute past midnight
	appendAt(t, log, focusgroup.PersonaStream("a1"), at, smallPersona(0))
	builtStar(t, log, analytics.Config{TimeZone: "Pacific/Kiritimati"})
	var day string
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT date::text FROM `+log.Schema()+`.daily_active_personas`).Scan(&day))
	require.Equal(t, "1979-06-01", day)
}
