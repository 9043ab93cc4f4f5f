package eventstore

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCompareSchema(t *testing.T) {
	t.Parallel()
	require.NoError(t, compareSchema("s", 3, 3))
	require.ErrorIs(t, compareSchema("s", 0, 3), ErrSchemaMissing)
	require.ErrorIs(t, compareSchema("s", 2, 3), ErrSchemaOlder)
	require.ErrorIs(t, compareSchema("s", 4, 3), ErrSchemaNewer)
}

// Guarantee 3 over months: however the leaves' positions overlap, the segments go through each of them exactly once, in
// order, and name every leaf that holds it.
func TestSegmentsCoverEveryPositionOnce(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		leaves := 1 + random.IntN(6)
		home := map[Position]time.Time{} // which leaf holds a position
		ranges := map[time.Time]*leafRange{}
		for p := Position(1 + random.IntN(5)); p < 60; p += Position(1 + random.IntN(4)) {
			month := time.Date(2026, time.Month(1+random.IntN(leaves)), 1, 0, 0, 0, 0, time.UTC)
			home[p] = month
			if ranges[month] == nil {
				ranges[month] = &leafRange{month: month, first: p}
			}
			ranges[month].last = p
		}
		var list []leafRange
		last := Position(0)
		for _, r := range ranges {
			list = append(list, *r)
			last = max(last, r.last)
		}
		at := Position(0)
		for _, segment := range planSegments(list) {
			require.Greater(t, segment.upTo, at)
			for p := at + 1; p <= segment.upTo; p++ {
				if month, ok := home[p]; ok {
					require.Contains(t, segment.months, month, "position %d of %v", p, list)
				}
			}
			at = segment.upTo
		}
		require.Equal(t, last, at, "the last segment ends at an event")
	}
	require.Empty(t, planSegments(nil))
}

// One follower polls for all; news reaches each of them, whoever sees it first.
func TestNewsReachesFollowersWhoSawLess(t *testing.T) {
	t.Parallel()
	news := newNewsroom()
	early := news.subscribe()
	early = news.observe(10, early) // surveyed at 10, about to wait
	later := news.subscribe()
	later = news.observe(12, later) // another saw 12
	requireClosed(t, early, true)
	requireClosed(t, later, false)
	news.poke()
	requireClosed(t, later, true)

	subscribed := news.subscribe()
	news.poke() // an append while the survey ran
	requireClosed(t, news.observe(13, subscribed), true)
}

func requireClosed(t *testing.T, c <-chan struct{}, closed bool) {
	t.Helper()
	select {
	case <-c:
		require.True(t, closed)
	default:
		require.False(t, closed)
	}
}

func TestCursorsAreOpaqueButChecked(t *testing.T) {
	t.Parallel()
	event := Recorded{Position: 1 << 40, ID: newID(), RecordedAt: time.Date(2026, 11, 22, 1, 2, 3, 4000, time.UTC)}
	place, err := event.Cursor().parse()
	require.NoError(t, err)
	require.Equal(t, event.Position, place.position)
	require.Equal(t, event.ID, place.eventID)
	require.Equal(t, event.RecordedAt, place.recordedAt)
	for _, bad := range []Cursor{"x", "42", event.Cursor() + "A", event.Cursor()[1:], "!!!", "Ag" + event.Cursor()[2:], Recorded{}.Cursor()} {
		_, err := bad.parse()
		require.ErrorIs(t, err, ErrBadCursor, "%s", bad)
	}
}
