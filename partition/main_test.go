package partition_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/devdb"
	"github.com/sight-platform/hindsight/internal/synthetic"
	"github.com/sight-platform/hindsight/partition"
)

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// The months of the tests' logs.
var (
	january  = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant that Go cannot write
	february = time.Date(2024, 2, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // as above
	march    = time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // as above
)

// newLog is a log of a small platform's three months.
func newLog(t testing.TB, events int) *eventstoretest.Log {
	t.Helper()
	log := eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
	_, err := log.Import(t.Context(), synthetic.New(synthetic.Config{
		Seed: 5, Personas: 30, Users: 5, Projects: 6, Months: 3, From: january, Events: events,
	}).Source, eventstore.ImportConfig{})
	require.NoError(t, err)
	return log
}

func newDir(t testing.TB) *partition.Dir {
	t.Helper()
	dir, err := partition.NewDir(t.TempDir())
	require.NoError(t, err)
	return dir
}

// direct leads past a pooler, where there is one: a run holds a lock by its session.
func direct(t testing.TB) *pgxpool.Pool {
	t.Helper()
	database, err := devdb.Shared(t.Context())
	require.NoError(t, err)
	return eventstoretest.Pool(t, database.DirectURL)
}

func newMonths(t testing.TB, log *eventstoretest.Log, config partition.Config) *partition.Months {
	t.Helper()
	config.Logger = slog.New(slog.DiscardHandler)
	if config.Online == 0 {
		config.Online = 1000
	}
	if config.Quarantine == 0 {
		config.Quarantine = time.Nanosecond
	}
	store, err := eventstore.New(direct(t), eventstore.Config{Schema: log.Schema()})
	require.NoError(t, err)
	months, err := partition.New(store, config)
	require.NoError(t, err)
	require.NoError(t, months.Migrate(t.Context()))
	return months
}

// withCold is a store of the same log that reads what is archived.
func withCold(t testing.TB, log *eventstoretest.Log, blob partition.Blob, pageSize int) *eventstore.Store {
	t.Helper()
	cold, err := partition.NewCold(blob, t.TempDir(), 0)
	require.NoError(t, err)
	store, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema(), Cold: cold, PageSize: pageSize})
	require.NoError(t, err)
	return store
}

// stored is an event as its table holds it.
type stored struct {
	Position eventstore.Position
	Stream   eventstore.StreamID
	Version  eventstore.Version
	ID       string
	Type     string
	Schema   int
	Recorded time.Time
	Occurred time.Time
	Data     string
	Metadata string
}

func collect(t testing.TB, events func(func(eventstore.Recorded, error) bool)) []stored {
	t.Helper()
	all, err := gather(events)
	require.NoError(t, err)
	return all
}

func gather(events func(func(eventstore.Recorded, error) bool)) (all []stored, err error) {
	for e, err := range events {
		if err != nil {
			return all, err
		}
		all = append(all, stored{
			e.Position, e.StreamID, e.Version, e.ID.String(), e.Type, e.SchemaVersion, e.RecordedAt, e.OccurredAt, string(e.JSON), string(e.MetadataJSON),
		})
	}
	return all, nil
}

func exec(t testing.TB, log *eventstoretest.Log, sql string) {
	t.Helper()
	_, err := log.Pool.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func states(t testing.TB, log *eventstoretest.Log) map[string]string {
	t.Helper()
	rows, err := log.Pool.Query(t.Context(), `SELECT ARRAY[to_char(month, 'YYYY-MM'), state] FROM `+log.Schema()+`.months`)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[[]string])
	require.NoError(t, err)
	found := map[string]string{}
	for _, month := range list {
		found[month[0]] = month[1]
	}
	return found
}
