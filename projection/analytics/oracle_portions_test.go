package analytics_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/synthetic"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// portions deals streams out, whatever their time, but for some that are cut in two: what is recorded first may have occurred
// last, and facts come before what they refer to.
func portions(events []eventstore.Imported, n int) [][]eventstore.Imported {
	random := rand.New(rand.NewPCG(5, 5)) //nolint:gosec // it must be foreseeable
	dealt := make([][]eventstore.Imported, n)
	place, length := map[eventstore.StreamID]int{}, map[eventstore.StreamID]int{}
	for _, e := range events {
		length[e.StreamID]++
	}
	for _, e := range events {
		at, ok := place[e.StreamID]
		if !ok {
			at = random.IntN(n)
		}
		if int(e.Version) == length[e.StreamID]/2 && at+1 < n {
			at++
		}
		place[e.StreamID] = at
		dealt[at] = append(dealt[at], e)
	}
	return dealt
}

// Guarantees A2 and A4: after each portion of a log that comes in any order, with pauses, repetitions, late events and
// corrections between, the tables are to the row what they would be had all been there from the start.
func TestPortionsInAnyOrderGiveTheSameRows(t *testing.T) {
	t.Parallel()
	for zone, from := range zones() {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			log := newLog(t)
			star, err := analytics.New(log.Store, analytics.Config{TimeZone: zone})
			require.NoError(t, err)
			dealt := portions(slices.Collect(synthetic.New(small(from, 1500)).Events()), 3)
			for i, portion := range dealt {
				require.EqualValues(t, len(portion), importAll(t, log.Store, portion).Events)
				require.EqualValues(t, len(portion), importAll(t, log.Store, portion).Existing, "the same events again")
				if i > 0 { // another process
					star, err = analytics.New(log.Store, analytics.Config{TimeZone: zone})
					require.NoError(t, err)
				}
				advance(t, log, star)
				requireOracle(t, log, star, zone)
			}
			appendBoundaries(t, log, zone, from)
			advance(t, log, star)
			requireOracle(t, log, star, zone)
			correct(t, log)
			advance(t, log, star)
			requireOracle(t, log, star, zone)
			runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{star}})
			require.NoError(t, err)
			require.NoError(t, runner.Reset(t.Context(), "analytics"))
			advance(t, log, star)
			requireOracle(t, log, star, zone)
		})
	}
}

func occurs(t testing.TB, log *eventstoretest.Log, stream eventstore.StreamID, at time.Time, data any) {
	t.Helper()
	_, err := log.Append(t.Context(), stream, eventstore.Any, eventstore.Event{Data: data, OccurredAt: at})
	require.NoError(t, err)
}

// appendBoundaries adds the last instants and the first ones of months and days, and those around changes of the clocks.
func appendBoundaries(t testing.TB, log *eventstoretest.Log, zone string, from time.Time) {
	t.Helper()
	location, err := time.LoadLocation(zone)
	require.NoError(t, err)
	var instants []time.Time
	for _, day := range []int{1, 10, 11, 32, 60, 91} { // in New York the clocks change on the 10th of March, the 39th day
		midnight := time.Date(from.Year(), from.Month(), day, 0, 0, 0, 0, location)
		utc := time.Date(from.Year(), from.Month(), day, 0, 0, 0, 0, time.UTC)
		instants = append(instants, midnight.Add(-time.Microsecond), midnight, utc.Add(-time.Microsecond), utc)
	}
	for _, change := range []time.Time{time.Date(2024, 3, 10, 7, 0, 0, 0, time.UTC), time.Date(2024, 11, 3, 6, 0, 0, 0, time.UTC)} {
		noon := time.Date(change.Year(), change.Month(), change.Day(), 12, 0, 0, 0, location)
		for _, at := range []time.Time{change, noon.Add(-12 * time.Hour), noon.Add(12 * time.Hour), noon.Add(13*time.Hour - time.Microsecond)} {
			instants = append(instants, at.Add(-time.Microsecond), at)
		}
	}
	for i, at := range instants {
		persona := fmt.Sprintf("edge%d", i%5)
		discussion := eventstore.StreamID(fmt.Sprintf("discussion-edge-%d", i))
		occurs(t, log, discussion, at, focusgroup.DiscussionStarted{ProjectID: "p1", UserID: "u1", Participants: []focusgroup.Participant{{PersonaID: persona, Name: "Edge"}}})
		occurs(t, log, discussion, at, focusgroup.Response{PersonaID: persona, UserID: "u1", Question: "Why?", Text: "Because.", Usage: focusgroup.Usage{Model: "small", TokensIn: 1}})
		occurs(t, log, focusgroup.PersonaStream(persona), at, focusgroup.PersonaEdited{PersonaID: persona, ProjectID: "p1", UserID: "u1", Name: "Edge", Attributes: focusgroup.Attributes{Age: 20 + i}})
	}
}

// correct edits personas, moves one to another project, ends a discussion at last and speaks in one that has ended.
func correct(t testing.TB, log *eventstoretest.Log) {
	t.Helper()
	at := time.Date(2024, 2, 29, 23, 59, 59, 999_999_000, time.UTC)
	receipt, err := log.Append(t.Context(), focusgroup.PersonaStream("a1"), eventstore.Any, eventstore.Event{OccurredAt: at, Data: focusgroup.PersonaEdited{
		PersonaID: "a1", ProjectID: "p7", UserID: "u0", Name: "Anna", Attributes: focusgroup.Attributes{Gender: "female", SegmentID: "s9"},
	}})
	require.NoError(t, err)
	again, err := log.Append(t.Context(), focusgroup.PersonaStream("a1"), eventstore.Any, eventstore.Event{ID: receipt.EventIDs[0], OccurredAt: at, Data: focusgroup.PersonaEdited{
		PersonaID: "a1", ProjectID: "p7", UserID: "u0", Name: "Anna", Attributes: focusgroup.Attributes{Gender: "female", SegmentID: "s9"},
	}})
	require.NoError(t, err)
	require.True(t, again.Repeated, "the same event again")
	occurs(t, log, focusgroup.PersonaStream("a2"), at, focusgroup.PersonaEdited{PersonaID: "a2", Name: "Of the project of its stream"})
	for _, discussion := range []eventstore.StreamID{"discussion-edge-0", "discussion-edge-1", "discussion-1", "discussion-2"} {
		occurs(t, log, discussion, at, focusgroup.Followup{PersonaID: "a3", Question: "Why?", Text: "One more thing. one", DurationSeconds: 3})
		occurs(t, log, discussion, at.Add(time.Hour), focusgroup.DiscussionEnded{Reason: "cancelled", Usage: focusgroup.Usage{CostUSD: 0.5}})
	}
	_, err = log.Append(t.Context(), "discussion-now", eventstore.Any, // today, which scores of health go up to
		focusgroup.DiscussionStarted{ProjectID: "p1", UserID: "u1"}, focusgroup.Response{PersonaID: "a3", UserID: "u1", Text: "Now."})
	require.NoError(t, err)
}
