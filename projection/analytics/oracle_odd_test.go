package analytics_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// oddIDs are ids that quoting, formatting or comparing could stumble over.
func oddIDs() []string {
	long := strings.Builder{}
	for i := range 100 {
		_, _ = fmt.Fprintf(&long, "%d-%c", i*7919, 'a'+i%26)
	}
	return []string{
		" ", "'; DROP TABLE x; --", `a"b\c`, "{{fact_llm_usage}}", "$1", "%s", "NULL", "<nil>", "(unknown)", "*", "tab\tand\nline", "ąż\u2028\ufeff", "{1,2}", `\N`, "A", "a", long.String(),
	}
}

// Guarantees A1 to A4, of events that are odd, but that the log takes.
func TestOddEventsEqualTheOracle(t *testing.T) {
	t.Parallel()
	for zone := range zones() {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			log := newLog(t)
			star, err := analytics.New(log.Store, analytics.Config{TimeZone: zone})
			require.NoError(t, err)
			for i := range 6 { // each event in a batch of its own
				addOddDiscussions(t, log, i)
				advance(t, log, star)
			}
			for _, add := range []func(testing.TB, *eventstoretest.Log){addOddIDs, addOddTimes, addOddPersonas} {
				add(t, log)
				advance(t, log, star)
				requireOracle(t, log, star, zone)
			}
			runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{star}})
			require.NoError(t, err)
			require.NoError(t, runner.Reset(t.Context(), "analytics"))
			advance(t, log, star) // in one batch what came in several
			requireOracle(t, log, star, zone)
		})
	}
}

func noon(day int) time.Time { return time.Date(2024, 5, day, 12, 0, 0, 0, time.UTC) }

func addOddIDs(t testing.TB, log *eventstoretest.Log) {
	t.Helper()
	for i, id := range oddIDs() {
		stream := eventstore.StreamID(fmt.Sprintf("odd-%d", i))
		occurs(t, log, stream, noon(1), focusgroup.Response{ProjectID: "p", UserID: id, PersonaID: id, PersonaName: id, Question: id, Text: id, Usage: focusgroup.Usage{Model: id, TokensOut: 1}})
		_, err := log.Append(t.Context(), eventstore.StreamID(fmt.Sprintf("odd-persona-%d", i)), eventstore.Any, eventstore.Event{OccurredAt: noon(2), Data: focusgroup.PersonaCreated{
			PersonaID: id, UserID: id, Name: id, Attributes: focusgroup.Attributes{Gender: id, Occupation: id, SegmentID: id},
		}})
		require.NoError(t, err)
		if !strings.Contains(id, "\n") && len(id) <= eventstore.MaxProjectBytes { // a stream's project has neither
			occurs(t, log, stream+"-project", noon(2), focusgroup.ProjectCreated{ProjectID: id, UserID: "owner " + id, Name: id})
			occurs(t, log, stream+"-survey", noon(3), focusgroup.SurveyCompleted{SurveyID: id, ProjectID: id, UserID: id, PersonaID: id, Answers: []focusgroup.SurveyAnswer{
				{Question: id, Type: focusgroup.MultipleChoice, Choices: oddIDs()}, {Type: focusgroup.OpenText, Text: id}, {Type: focusgroup.SingleChoice}, {Type: focusgroup.OpenText}, {Type: focusgroup.Rating},
			}})
		}
	}
	for _, text := range []string{"a\x00b", "a\xffb"} { // never reach the star
		_, err := log.Append(t.Context(), "odd-text", eventstore.Any, focusgroup.Response{PersonaID: "a", Text: text})
		require.ErrorIs(t, err, eventstore.ErrInvalid)
	}
}

// addOddDiscussions adds the ith event of each.
func addOddDiscussions(t testing.TB, log *eventstoretest.Log, i int) {
	t.Helper()
	turn := focusgroup.Turn{ProjectID: "p", UserID: "u", PersonaID: "a", Question: "Why?", Text: "why Why WHY not"}
	said := func(persona string, seconds float64) focusgroup.Response {
		t := turn
		t.PersonaID, t.DurationSeconds = persona, seconds
		return focusgroup.Response(t)
	}
	started := focusgroup.DiscussionStarted{ProjectID: "p", UserID: "u", Participants: []focusgroup.Participant{{PersonaID: "a", Name: "A"}, {Name: "of no id"}}}
	ended := func(reason string, seconds float64) focusgroup.DiscussionEnded {
		return focusgroup.DiscussionEnded{Reason: reason, DurationSeconds: seconds}
	}
	streams := map[string][]any{
		"turns before":      {said("a", 1), said("b", 2), started, said("c", 3)},
		"end before":        {ended("completed", 5), started, said("a", 0)},
		"two starts":        {started, said("a", 1), started, said("b", 1), said("c", 1), ended("completed", 0)},
		"two ends":          {started, ended("completed", 0), said("a", 1), ended("cancelled", 7)},
		"ends and starts":   {started, ended("cancelled", 1), said("a", 1), started, ended("", 0), started},
		"never started":     {said("a", 1), ended("completed", 1)},
		"nothing in it":     {focusgroup.DiscussionStarted{}, ended("", 0)},
		"no project at all": {focusgroup.DiscussionStarted{UserID: "u"}, focusgroup.Response{PersonaID: "a", Text: "x"}, focusgroup.Followup{Role: focusgroup.RoleModerator, Text: "y"}},
		"odd durations":     {started, said("a", -5), said("a", 1e9), said("a", 1e-9), ended("completed", -1)},
		"empty texts":       {started, focusgroup.Response{PersonaID: "a", Question: "Q"}, focusgroup.Response{PersonaID: "a", Text: " \t\n\u00a0"}},
		"of the moderator":  {started, focusgroup.Response{Role: focusgroup.RoleModerator, PersonaID: "m", Question: "Q", Text: "words of a moderator"}},
	}
	for id, events := range streams {
		if i >= len(events) {
			continue
		}
		at := noon(4 + i)
		if id == "two ends" { // it ends before it begins
			at = noon(20 - i)
		}
		occurs(t, log, eventstore.StreamID("discussion-"+id), at, events[i])
	}
}

// addOddTimes adds what occurred when clocks were set by the sun, before 1970, and after all of us.
func addOddTimes(t testing.TB, log *eventstoretest.Log) {
	t.Helper()
	for i, text := range []string{
		"1900-01-01T00:00:00Z", "1910-06-01T18:18:43.999999Z", "1910-06-01T18:18:44Z", "1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z",
		"1972-01-06T23:59:00Z", "2038-01-19T03:14:08Z", "2199-12-31T23:59:59.999999Z",
	} {
		at, err := time.Parse(time.RFC3339Nano, text)
		require.NoError(t, err)
		occurs(t, log, eventstore.StreamID(fmt.Sprintf("discussion-time-%d", i)), at, focusgroup.DiscussionStarted{ProjectID: "of all times"})
		occurs(t, log, eventstore.StreamID(fmt.Sprintf("discussion-time-%d", i)), at, focusgroup.Response{PersonaID: fmt.Sprintf("t%d", i), Text: "x"})
	}
}

func addOddPersonas(t testing.TB, log *eventstoretest.Log) {
	t.Helper()
	listed := func(gender, occupation string) focusgroup.DiscussionStarted {
		person := focusgroup.Participant{PersonaID: "shift", Name: "S", Attributes: focusgroup.Attributes{Gender: gender, Occupation: occupation}}
		return focusgroup.DiscussionStarted{ProjectID: "p", UserID: "u", Participants: []focusgroup.Participant{person, person}}
	}
	twice := listed("x", "y")
	twice.Participants[1].Name = "T"
	for i, data := range []any{listed("ab", "c"), listed("a", "bc"), listed("a", "bc"), listed("", "abc"), listed("<nil>", "abc"), twice, listed("x", "y")} {
		occurs(t, log, eventstore.StreamID(fmt.Sprintf("discussion-list-%d", i)), noon(1+i), data)
	}
	edited := focusgroup.PersonaEdited{PersonaID: "shift", ProjectID: "p", Name: "S"}
	for i, age := range []int{-5, 0, 0, 17, 18, 64, 65, 200} {
		edited.Age = age
		if i == 5 { // it moves, and back
			edited.ProjectID = "another"
		}
		occurs(t, log, focusgroup.PersonaStream("shift"), noon(20-i), edited)
		edited.ProjectID = "p"
	}
	occurs(t, log, "discussion-list-9", noon(20), listed("too", "late"))
	occurs(t, log, "survey-empty", noon(5), focusgroup.SurveyCompleted{SurveyID: "s", PersonaID: "a", Answers: []focusgroup.SurveyAnswer{}})
	occurs(t, log, "persona-none", noon(20), focusgroup.PersonaCreated{ProjectID: "p", Name: "without an id", Usage: focusgroup.Usage{CostUSD: 1}})
	occurs(t, log, "user-none", noon(20), focusgroup.UserRegistered{Name: "without an id"})
	for _, name := range []string{"first", "second"} {
		occurs(t, log, "user-twice", noon(20), focusgroup.UserRegistered{UserID: "u", Name: name})
		occurs(t, log, "project-twice", noon(20), focusgroup.ProjectCreated{ProjectID: "p", Name: name, UserID: name})
	}
}

// Guarantee A4: what is no number to compute with is parked, where it would else fail every refresh to come.
func TestAbsurdNumbersAreParkedAndHarmNoAggregate(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	star, err := analytics.New(log.Store, analytics.Config{})
	require.NoError(t, err)
	absurd := []any{
		focusgroup.Response{ProjectID: "p", PersonaID: "a", Text: "x", DurationSeconds: 1e200},
		focusgroup.Response{ProjectID: "p", PersonaID: "a", Text: "x", DurationSeconds: -1e200},
		focusgroup.Response{ProjectID: "p", PersonaID: "a", Text: "x", Usage: focusgroup.Usage{TokensIn: -1}},
		focusgroup.Response{ProjectID: "p", PersonaID: "a", Text: "x", Usage: focusgroup.Usage{TokensOut: 9e18}},
		focusgroup.Response{ProjectID: "p", PersonaID: "a", Text: "x", Usage: focusgroup.Usage{CostUSD: -0.1}},
		focusgroup.Response{ProjectID: "p", PersonaID: "a", Text: "x", Usage: focusgroup.Usage{CostUSD: 1e300}},
		focusgroup.PersonaCreated{ProjectID: "p", PersonaID: "a", Attributes: focusgroup.Attributes{Age: 1 << 40}},
	}
	for i, data := range absurd {
		occurs(t, log, eventstore.StreamID(fmt.Sprintf("absurd-%d", i)), noon(1), data)
		occurs(t, log, eventstore.StreamID(fmt.Sprintf("good-%d", i)), noon(1), focusgroup.Response{ProjectID: "p", PersonaID: "a", Text: "x", DurationSeconds: 2})
	}
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{star}})
	require.NoError(t, err)
	require.NoError(t, runner.Migrate(ctx))
	running, leave := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(running) }()
	require.Eventually(t, func() bool { return len(readTable(t, log, "fact_persona_interactions")) == len(absurd) }, time.Minute, 20*time.Millisecond)
	parked, err := runner.Parked(ctx, "analytics", 100)
	require.NoError(t, err)
	leave()
	require.NoError(t, <-ended)
	require.Len(t, parked, len(absurd))
	_, err = star.Refresh(ctx)
	require.NoError(t, err)
	active := readTable(t, log, "daily_active_personas")
	require.Len(t, active, 1)
	require.True(t, same(active[0]["total_interactions"], len(absurd)))
	require.True(t, same(active[0]["avg_duration_seconds"], 2.0))
}

// Guarantee A4: the days that begin while nobody refreshes get their scores by the next refresh, and the weeks that end their
// cells, however late.
func TestDaysWithoutARefreshAreMadeUpFor(t *testing.T) {
	t.Parallel()
	for _, since := range []int{1, 20, 44, 79} { // the last refresh, days ago
		log := newLog(t)
		occurs(t, log, "discussion-1", time.Now().AddDate(0, 0, -80), focusgroup.Response{ProjectID: "p", PersonaID: "a", Text: "x"})
		if since < 45 {
			occurs(t, log, "discussion-1", time.Now().AddDate(0, 0, -45), focusgroup.Response{ProjectID: "p", PersonaID: "a", Text: "x"})
		}
		star, err := analytics.New(log.Store, analytics.Config{})
		require.NoError(t, err)
		advance(t, log, star)
		requireOracle(t, log, star, "UTC")
		_, err = log.Pool.Exec(t.Context(), `DELETE FROM `+log.Schema()+`.project_health_scores_v1 WHERE date > current_date - $1::integer`, since)
		require.NoError(t, err)
		_, err = log.Pool.Exec(t.Context(), `UPDATE `+log.Schema()+`.weekly_retention_cohorts_v1 SET active = NULL, retention = NULL
 WHERE cohort_week + 7 * week_n + 7 > current_date - $1::integer`, since)
		require.NoError(t, err)
		star, err = analytics.New(log.Store, analytics.Config{})
		require.NoError(t, err)
		requireOracle(t, log, star, "UTC")
	}
}

// Guarantee A2: each partition of a fact has all foreign keys, and none waits to be checked.
func TestEachPartitionHasTheForeignKeys(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	addOddTimes(t, log)
	star, err := analytics.New(log.Store, analytics.Config{})
	require.NoError(t, err)
	advance(t, log, star)
	var leaves, lacking, unchecked int
	require.NoError(t, log.Pool.QueryRow(t.Context(), `
SELECT count(*), count(*) FILTER (WHERE own.n < whole.n OR whole.n < 3),
       (SELECT count(*) FROM pg_constraint WHERE connamespace = $1::regnamespace AND contype = 'f' AND NOT convalidated)
  FROM pg_inherits i
 CROSS JOIN LATERAL (SELECT count(*) AS n FROM pg_constraint WHERE conrelid = i.inhrelid AND contype = 'f') AS own
 CROSS JOIN LATERAL (SELECT count(*) AS n FROM pg_constraint WHERE conrelid = i.inhparent AND contype = 'f') AS whole
  JOIN pg_class c ON c.oid = i.inhparent AND c.relkind = 'p' AND c.relname LIKE 'fact%' AND c.relnamespace = $1::regnamespace`, log.Schema()).Scan(&leaves, &lacking, &unchecked))
	require.Equal(t, 4*7, leaves, "facts times months: no survey was answered")
	require.Zero(t, lacking)
	require.Zero(t, unchecked)
}
