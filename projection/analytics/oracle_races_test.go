package analytics_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/synthetic"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// Guarantee A4: however refreshes of several processes fall between the batches, nothing that has changed is left out.
func TestRefreshesWhileFactsComeLoseNothing(t *testing.T) {
	t.Parallel()
	const zone = "Asia/Kathmandu"
	log := newLog(t)
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	star, err := analytics.New(log.Store, analytics.Config{TimeZone: zone})
	require.NoError(t, err)
	runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{star}})
	require.NoError(t, err)
	require.NoError(t, runner.Migrate(ctx))
	events := slices.Collect(synthetic.New(small(zones()[zone], 2500)).Events())

	working, leave := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error { return runner.Run(working) })
	for range 2 {
		other, err := analytics.New(log.Store, analytics.Config{TimeZone: zone})
		require.NoError(t, err)
		group.Go(func() error {
			var failed error
			other.KeepFresh(working, 5*time.Millisecond, func(_ analytics.Refreshed, err error) { failed = errors.Join(failed, err) })
			return failed
		})
	}
	for portion := range slices.Chunk(events, 250) {
		importAll(t, log.Store, portion)
	}
	settled, err := log.Settled(ctx)
	require.NoError(t, err)
	require.NoError(t, runner.WaitFor(ctx, "analytics", settled))
	leave()
	require.NoError(t, group.Wait())
	requireOracle(t, log, star, zone)
}

// Guarantee A3: what a persona's own events say counts from their positions on, though they waited behind a parked event while a
// list of participants spoke for it.
func TestAHistoryGoesByPositionAfterParking(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	star, err := analytics.New(log.Store, analytics.Config{})
	require.NoError(t, err)
	runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{star}})
	require.NoError(t, err)
	require.NoError(t, runner.Migrate(ctx))
	listed := func(name string) focusgroup.DiscussionStarted {
		return focusgroup.DiscussionStarted{ProjectID: "p", Participants: []focusgroup.Participant{{PersonaID: "a", Name: name}}}
	}
	occurs(t, log, "discussion-1", noon(1), listed("first"))
	bad, err := log.Append(ctx, "persona-a", eventstore.Any, eventstore.Event{OccurredAt: noon(2), Data: focusgroup.PersonaCreated{PersonaID: "a", Attributes: focusgroup.Attributes{Age: 1 << 40}}})
	require.NoError(t, err)
	occurs(t, log, "persona-a", noon(3), focusgroup.PersonaEdited{PersonaID: "a", ProjectID: "p", Name: "own"})
	occurs(t, log, "discussion-2", noon(4), listed("second"))
	running, leave := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(running) }()
	require.Eventually(t, func() bool { return len(readTable(t, log, "dim_persona_history")) == 2 }, time.Minute, 20*time.Millisecond, "the lists speak for it")
	require.Eventually(t, func() bool { return runner.Skip(ctx, "analytics", bad.Position(), "absurd") == nil }, time.Minute, 20*time.Millisecond)
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(readTable(t, log, "dim_persona_history"), func(r row) bool { return r["name"] == "own" })
	}, time.Minute, 20*time.Millisecond)
	leave()
	require.NoError(t, <-ended)
	want := index(t, "dim_persona_history", keys()["dim_persona_history"], foretell(t, log, "UTC", "2024-06-01", bad.Position())["dim_persona_history"])
	got := index(t, "dim_persona_history", keys()["dim_persona_history"], readTable(t, log, "dim_persona_history"))
	require.Len(t, got, len(want))
	for name := range want {
		require.Empty(t, difference(got[name], want[name]), name)
	}
}

// Guarantee A3: attributes of any type give the same history whether events come one by one or in one batch.
func TestAttributesOfAnyTypeDoNotDependOnBatches(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	own := func(f func(focusgroup.PersonaEdited) any) func(eventstore.Recorded) any {
		return func(e eventstore.Recorded) any {
			if d, ok := e.Data.(focusgroup.PersonaEdited); ok {
				return f(d)
			}
			return nil
		}
	}
	attribute := func(name, kind string, value func(focusgroup.PersonaEdited) any) analytics.Attribute {
		return analytics.Attribute{Of: analytics.Personas, Column: analytics.Column{Name: name, Type: kind, Comment: "Any."}, Value: own(value)}
	}
	attributes := []analytics.Attribute{
		attribute("bio", "jsonb", func(d focusgroup.PersonaEdited) any { return map[string]any{"b": d.Description, "a": []int{1, d.Age}} }),
		attribute("seen", "timestamptz", func(focusgroup.PersonaEdited) any { return noon(1) }),
		attribute("effort", "real", func(d focusgroup.PersonaEdited) any { return float32(d.DurationSeconds) }),
		{Of: analytics.Users, Column: analytics.Column{Name: "known", Type: "boolean", Comment: "Any."}, Value: func(eventstore.Recorded) any { return true }},
	}
	star, err := analytics.New(log.Store, analytics.Config{Attributes: attributes})
	require.NoError(t, err)
	listed := focusgroup.DiscussionStarted{ProjectID: "p", Participants: []focusgroup.Participant{{PersonaID: "a", Name: "A"}, {PersonaID: "b", Name: "B", Attributes: focusgroup.Attributes{Age: 7}}}}
	edited := focusgroup.PersonaEdited{PersonaID: "a", ProjectID: "p", Name: "A", Description: "ü", DurationSeconds: 0.1}
	for i, data := range []any{listed, listed, edited, edited, listed, focusgroup.UserRegistered{UserID: "u"}, edited} {
		occurs(t, log, eventstore.StreamID([]string{"discussion-1", "persona-a"}[i%2]), noon(1+i), data)
		advance(t, log, star)
	}
	tables := []string{"dim_personas", "dim_users", "dim_persona_history"}
	before := map[string][]row{}
	for _, table := range tables {
		before[table] = readTable(t, log, table)
	}
	runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{star}})
	require.NoError(t, err)
	require.NoError(t, runner.Reset(t.Context(), "analytics"))
	advance(t, log, star)
	for _, table := range tables {
		require.NotEmpty(t, before[table])
		require.ElementsMatch(t, before[table], readTable(t, log, table), table)
	}
	require.Len(t, before["dim_persona_history"], 2+2+1+3, "the lists' members, of the third the one without events of its own, and three edits")
}
