package analytics_test

import (
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
	"github.com/sight-platform/hindsight/internal/synthetic"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// zones are those of these tests, each with a month before a change of its clocks, where there is one.
func zones() map[string]time.Time {
	return map[string]time.Time{
		"UTC":              time.Date(2023, 12, 1, 0, 0, 0, 0, time.UTC),
		"America/New_York": time.Date(2024, 2, 1, 0, 0, 0, 0, time.UTC),
		"Asia/Kathmandu":   time.Date(2024, 9, 1, 0, 0, 0, 0, time.UTC),
	}
}

func small(from time.Time, events int) synthetic.Config {
	return synthetic.Config{Seed: 3, Personas: 40, Users: 6, Projects: 8, Months: 3, From: from, Events: events}
}

// importAll writes events into the log.
func importAll(t testing.TB, store *eventstore.Store, events []eventstore.Imported) eventstore.ImportReport {
	t.Helper()
	report, err := store.Import(t.Context(), func(string) iter.Seq2[eventstore.Imported, error] {
		return func(yield func(eventstore.Imported, error) bool) {
			for _, event := range events {
				if !yield(event, nil) {
					return
				}
			}
		}
	}, eventstore.ImportConfig{})
	require.NoError(t, err)
	return report
}

// Guarantees A1 to A4: every row of every table is what the log says, in three time zones.
func TestTheStarOfASyntheticLogEqualsTheOracle(t *testing.T) {
	t.Parallel()
	for zone, from := range zones() {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			log := newLog(t)
			_, err := log.Import(t.Context(), synthetic.New(small(from, 3000)).Source, eventstore.ImportConfig{})
			require.NoError(t, err)
			star, err := analytics.New(log.Store, analytics.Config{TimeZone: zone})
			require.NoError(t, err)
			advance(t, log, star)
			requireOracle(t, log, star, zone)
		})
	}
}

// Guarantees A1 to A4, of discussions that were really held, each recording in one of the time zones; and a reset builds the same
// rows. HINDSIGHT_TEST_LONG=1 takes those of more than a megabyte, too.
func TestTheStarOfARealRecordingEqualsTheOracle(t *testing.T) {
	t.Parallel()
	names, turn := slices.Sorted(maps.Keys(zones())), 0
	corpustest.EachRecording(t, func(t *testing.T, path string) {
		zone := names[turn%len(names)]
		turn++
		t.Parallel()
		file, err := os.Stat(path)
		require.NoError(t, err)
		if file.Size() > 1<<20 && os.Getenv("HINDSIGHT_TEST_LONG") == "" {
			t.Skip("a large recording: HINDSIGHT_TEST_LONG=1")
		}
		log := newLog(t)
		importCorpus(t, log, filepath.Base(path))
		star, err := analytics.New(log.Store, analytics.Config{TimeZone: zone})
		require.NoError(t, err)
		advance(t, log, star)
		requireOracle(t, log, star, zone)
		runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{star}})
		require.NoError(t, err)
		require.NoError(t, runner.Reset(t.Context(), "analytics"))
		require.Empty(t, readTable(t, log, "daily_active_personas"))
		advance(t, log, star)
		requireOracle(t, log, star, zone)
	})
}

// Guarantees A1 to A4, of two years of a platform with 1,000 personas.
func TestTheStarOfAWholePlatformEqualsTheOracle(t *testing.T) {
	t.Parallel()
	if os.Getenv("HINDSIGHT_TEST_LONG") == "" {
		t.Skip("many minutes: HINDSIGHT_TEST_LONG=1")
	}
	log := newLog(t)
	_, err := log.Import(t.Context(), synthetic.New(synthetic.Config{}).Source, eventstore.ImportConfig{})
	require.NoError(t, err)
	star, err := analytics.New(log.Store, analytics.Config{TimeZone: "America/New_York"})
	require.NoError(t, err)
	advance(t, log, star)
	requireOracle(t, log, star, "America/New_York")
}
