package synthetic_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/synthetic"
)

func small(seed uint64) synthetic.Config {
	return synthetic.Config{Seed: seed, Personas: 60, Months: 4, Events: 8000}
}

func TestTheSameSeedGivesTheSameLog(t *testing.T) {
	t.Parallel()
	collect := func(seed uint64) (all []eventstore.Imported) {
		for event := range synthetic.New(small(seed)).Events() {
			all = append(all, event)
		}
		return all
	}
	first := collect(7)
	require.Equal(t, first, collect(7))
	require.NotEqual(t, first, collect(8))
	require.InDelta(t, 8000, len(first), 200)
}

func TestTheLogIsOneThatCouldBeRecorded(t *testing.T) {
	t.Parallel()
	versions := map[eventstore.StreamID]eventstore.Version{}
	recorded := time.Time{}
	ids := map[uuid.UUID]bool{}
	weekdays, kinds, late := map[time.Weekday]int{}, map[string]int{}, 0
	for event := range synthetic.New(small(1)).Events() {
		versions[event.StreamID]++
		require.Equal(t, versions[event.StreamID], event.Version, "%s has a hole", event.StreamID)
		require.NoError(t, event.StreamID.Validate())
		require.False(t, event.RecordedAt.Before(recorded), "the clock never goes back")
		require.False(t, ids[event.Event.ID], "an id twice")
		recorded, ids[event.Event.ID] = event.RecordedAt, true
		require.False(t, event.Event.OccurredAt.After(event.RecordedAt))
		if event.RecordedAt.Sub(event.Event.OccurredAt) > 24*time.Hour {
			late++
		}
		weekdays[event.Event.OccurredAt.Weekday()]++
		switch event.Event.Data.(type) {
		case focusgroup.PersonaEdited:
			kinds["edited"]++
		case focusgroup.SurveyCompleted:
			kinds["surveyed"]++
		case focusgroup.Response:
			kinds["discussed"]++
		case focusgroup.PersonaCreated:
			kinds["created"]++
		}
	}
	require.Greater(t, late, 50)
	require.Greater(t, weekdays[time.Tuesday], 2*weekdays[time.Sunday])
	for _, kind := range []string{"edited", "surveyed", "discussed", "created"} {
		require.Greater(t, kinds[kind], 10, kind)
	}
}

func BenchmarkEvents(b *testing.B) {
	n := 0
	for range b.N {
		for range synthetic.New(synthetic.Config{Events: 1_000_000}).Events() {
			n++
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}
