package analytics_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// Two processes that come to a month at once both find it made.
func TestTwoProcessesMakeAMonthAtOnce(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	var batch projection.Batch
	for month := range 12 {
		batch.Events = append(batch.Events, eventstore.Recorded{Type: focusgroup.TypeResponse, OccurredAt: noon(1).AddDate(0, month, 0)})
	}
	builtStar(t, log, analytics.Config{})
	var group errgroup.Group
	for range 4 {
		star, err := analytics.New(log.Store, analytics.Config{})
		require.NoError(t, err)
		own := batch
		group.Go(func() error { return star.Prepare(ctx, &own) })
	}
	require.NoError(t, group.Wait())
	var leaves int
	require.NoError(t, log.Pool.QueryRow(ctx, `
SELECT count(*) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE c.relkind = 'r' AND c.relnamespace = $1::regnamespace AND c.relname ~ '^fact'`, log.Schema()).Scan(&leaves))
	require.Equal(t, 4*12, leaves, "interactions, usage, turns and sessions")
}

// A month's table that was detached is nobody's to drop: the projection waits for its operator, and parks nothing.
func TestADetachedMonthIsNotDropped(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	appendWorld(t, log)
	builtStar(t, log, analytics.Config{})
	month := log.Schema() + `.fact_discussion_turns_v1_2025_03`
	attach := `ALTER TABLE ` + log.Schema() + `.fact_discussion_turns_v1 `
	_, err := log.Pool.Exec(ctx, attach+`DETACH PARTITION `+month)
	require.NoError(t, err)
	star, err := analytics.New(log.Store, analytics.Config{})
	require.NoError(t, err)
	last := appendAt(t, log, "discussion-8", smallWorld(), focusgroup.Response{PersonaID: "a1", Text: "x"})
	runner := runInBackground(t, star, log)
	err = star.Prepare(ctx, &projection.Batch{Events: []eventstore.Recorded{{Type: focusgroup.TypeResponse, OccurredAt: smallWorld()}}})
	require.ErrorContains(t, err, "fact_discussion_turns_v1_2025_03 is there, but is no partition")
	_, err = log.Pool.Exec(ctx, attach+`ATTACH PARTITION `+month+` FOR VALUES FROM ('2025-03-01Z') TO ('2025-04-01Z')`)
	require.NoError(t, err)
	require.NoError(t, runner.WaitFor(ctx, "analytics", last.Position()))
	parked, err := runner.Parked(ctx, "analytics", 10)
	require.NoError(t, err)
	require.Empty(t, parked)
	require.Len(t, readTable(t, log, "fact_discussion_turns"), 3*6+1)
}

// A month is made for the facts that may have rows in it alone.
func TestMonthsAreMadeForTheFactsOfAnEvent(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	occurs(t, log, "user-1", time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), focusgroup.UserRegistered{UserID: "u"})
	occurs(t, log, "survey-1", time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC), focusgroup.SurveyCompleted{SurveyID: "s", PersonaID: "a"})
	build(t, log, analytics.Config{})
	for fact, want := range map[string]int{"fact_survey_answers": 1, "fact_persona_interactions": 1, "fact_llm_usage": 1, "fact_discussion_turns": 0, "fact_focus_group_sessions": 0} {
		var leaves int
		require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_inherits WHERE inhparent = ($1::text)::regclass`, fmt.Sprintf("%s.%s_v1", log.Schema(), fact)).Scan(&leaves))
		require.Equal(t, want, leaves, fact)
	}
}
