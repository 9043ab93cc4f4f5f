package analytics_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// refusing is a fact without rows, which parks the events of streams whose names end with -refused, as long as it should.
func refusing(refuse *atomic.Bool) []analytics.Fact {
	return []analytics.Fact{{
		Name: "fact_refused", Grain: "None.",
		Types: []string{focusgroup.TypeUserRegistered, focusgroup.TypeProjectCreated, focusgroup.TypePersonaCreated, focusgroup.TypeDiscussionStarted},
		Rows: func(e eventstore.Recorded) ([]analytics.Row, error) {
			if refuse.Load() && strings.HasSuffix(string(e.StreamID), "-refused") {
				return nil, errors.New("not yet")
			}
			return nil, nil
		},
	}}
}

// retryParked has all that is parked applied.
func retryParked(t testing.TB, runner *projection.Runner) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	require.NoError(t, runner.Retry(ctx, "analytics", ""))
	running, leave := context.WithCancel(ctx)
	defer leave()
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(running) }()
	require.Eventually(t, func() bool {
		parked, err := runner.Parked(ctx, "analytics", 100)
		return err == nil && len(parked) == 0
	}, time.Minute, 20*time.Millisecond)
	leave()
	require.NoError(t, <-ended)
}

// Guarantee A3: an event that was parked, and is applied when later ones have been, gives what a star has that is built anew: of
// members as they are, and as they were.
func TestAParkedEventThatIsTriedAgainComesWhereItBelongs(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	log := newLog(t)
	listed := func(persona, name string) focusgroup.DiscussionStarted {
		return focusgroup.DiscussionStarted{ProjectID: "p-" + name, Participants: []focusgroup.Participant{{PersonaID: persona, Name: name}}}
	}
	created := func(persona, name string) focusgroup.PersonaCreated {
		return focusgroup.PersonaCreated{PersonaID: persona, ProjectID: "p", Name: name}
	}
	edited := func(persona, name string) focusgroup.PersonaEdited {
		return focusgroup.PersonaEdited{PersonaID: persona, ProjectID: "p", Name: name}
	}
	for stream, events := range map[string][2][]any{ // of a stream that is refused at first, and of another after it
		"two lists":                         {{listed("a", "first")}, {listed("a", "second")}},
		"an edit before its creation":       {{created("b", "first")}, {edited("b", "second"), edited("b", "third")}},
		"a list before its own event":       {{listed("c", "first")}, {created("c", "second"), listed("c", "never")}},
		"an own event before lists":         {{created("d", "first")}, {listed("d", "never"), listed("d", "never either")}},
		"own events around a list":          {{created("e", "first")}, {listed("e", "never"), edited("e", "second")}},
		"users of several events":           {{focusgroup.UserRegistered{UserID: "u", Name: "first"}}, {focusgroup.UserRegistered{UserID: "u", Name: "second"}}},
		"projects of several events":        {{focusgroup.ProjectCreated{ProjectID: "r", Name: "first", UserID: "v"}}, {focusgroup.ProjectCreated{ProjectID: "r", Name: "second", UserID: "w"}}},
		"a list between two that are alike": {{listed("f", "second")}, {listed("f", "first")}},
		"a list after its own event":        {{listed("g", "never")}, {edited("g", "second")}},
	} {
		name := eventstore.StreamID("odd-" + stream)
		switch stream {
		case "a list between two that are alike":
			occurs(t, log, name+"-before", noon(1), listed("f", "first"))
		case "a list after its own event":
			occurs(t, log, name+"-before", noon(1), created("g", "first"))
		}
		for i, list := range events {
			for j, data := range list {
				occurs(t, log, name+eventstore.StreamID([]string{"-refused", ""}[i]), noon(2+2*i+j), data)
			}
		}
	}
	var refuse atomic.Bool
	refuse.Store(true)
	star, err := analytics.New(log.Store, analytics.Config{Facts: refusing(&refuse)})
	require.NoError(t, err)
	runner := runUntilSettled(t, log, star)
	parked, err := runner.Parked(ctx, "analytics", 100)
	require.NoError(t, err)
	require.Len(t, parked, 9)
	refuse.Store(false)
	retryParked(t, runner)
	requireOracle(t, log, star, "UTC")
	for _, r := range readTable(t, log, "dim_persona_history") {
		require.NotContains(t, r["name"], "never")
	}
	runner, err = projection.New(log.Store, projection.Config{Projections: []projection.Projection{star}})
	require.NoError(t, err)
	require.NoError(t, runner.Reset(ctx, "analytics"))
	advance(t, log, star)
	requireOracle(t, log, star, "UTC")
}
