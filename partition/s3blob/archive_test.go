package s3blob_test

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/devdb"
	"github.com/sight-platform/hindsight/internal/synthetic"
	"github.com/sight-platform/hindsight/partition"
)

// january is the first month of the tests' logs.
var january = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant that Go cannot write

// newLog is a log of a small platform's three months.
func newLog(t *testing.T, events int) *eventstoretest.Log {
	t.Helper()
	log := eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
	_, err := log.Import(t.Context(), synthetic.New(synthetic.Config{
		Seed: 5, Personas: 30, Users: 5, Projects: 6, Months: 3, From: january, Events: events,
	}).Source, eventstore.ImportConfig{})
	require.NoError(t, err)
	return log
}

// newMonths looks after the log's months, past a pooler where there is one: a run holds a lock by its session.
func newMonths(t *testing.T, log *eventstoretest.Log, archive partition.Blob, quarantine time.Duration) *partition.Months {
	t.Helper()
	database, err := devdb.Shared(t.Context())
	require.NoError(t, err)
	store, err := eventstore.New(eventstoretest.Pool(t, database.DirectURL), eventstore.Config{Schema: log.Schema()})
	require.NoError(t, err)
	months, err := partition.New(store, partition.Config{
		Archive: archive, Online: 1000, Quarantine: quarantine, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	require.NoError(t, months.Migrate(t.Context()))
	return months
}

// withCold is a store of the same log that reads what is archived.
func withCold(t *testing.T, log *eventstoretest.Log, archive partition.Blob) *eventstore.Store {
	t.Helper()
	cold, err := partition.NewCold(archive, t.TempDir(), 0)
	require.NoError(t, err)
	store, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema(), Cold: cold, PageSize: 100})
	require.NoError(t, err)
	return store
}

// everything is the log as All gives it, and one of its streams in both directions, to the byte.
func everything(t *testing.T, store *eventstore.Store, id eventstore.StreamID) [3][]eventstore.Recorded {
	t.Helper()
	ctx := t.Context()
	all := [3][]eventstore.Recorded{
		eventstoretest.Collect(t, store.All(ctx, 0, eventstore.Filter{})),
		eventstoretest.Collect(t, store.Stream(ctx, id, 0)), eventstoretest.Collect(t, store.Backward(ctx, id, 0)),
	}
	for _, events := range all {
		require.NotEmpty(t, events)
		for i := range events {
			events[i].Data = nil // of a store with a codec
		}
	}
	return all
}

func firstStream(t *testing.T, log *eventstoretest.Log) eventstore.StreamID {
	t.Helper()
	for event, err := range log.All(t.Context(), 0, eventstore.Filter{Categories: []string{"discussion"}}) {
		require.NoError(t, err)
		return event.StreamID
	}
	t.Fatal("no discussion")
	return ""
}

func state(t *testing.T, log *eventstoretest.Log, month time.Time) (state string) {
	t.Helper()
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT state FROM `+log.Schema()+`.months WHERE month = $1`, month).Scan(&state))
	return state
}

// A log's months are archived in the store, read there as before, and brought back. A flipped byte is found before a table is dropped.
func TestMonthsAreArchivedInTheStore(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	log := newLog(t, 3000)
	id := firstStream(t, log)
	before := everything(t, log.Store, id)
	bucket := shared.newBucket(t)
	blob := open(t, shared.client(t), bucket, "archives/log")

	patient := newMonths(t, log, blob, time.Hour)
	_, err := patient.Archive(ctx, january)
	require.ErrorIs(t, err, partition.ErrNotYet)
	require.Equal(t, "detached", state(t, log, january))
	keys, err := blob.List(ctx, "")
	require.NoError(t, err)
	require.Contains(t, keys, "year=2024/month=01/manifest.json")
	require.Greater(t, len(keys), 3)

	months := newMonths(t, log, blob, time.Nanosecond)
	for _, key := range keys {
		mend := flipByte(t, shared.file(bucket, "archives/log/"+key))
		_, err := months.Archive(ctx, january)
		var damaged *partition.DamagedError
		require.ErrorAs(t, err, &damaged, key)
		require.ErrorIs(t, err, partition.ErrDamaged)
		require.Equal(t, key, damaged.Key)
		require.Equal(t, "detached", state(t, log, january))
		var there bool
		require.NoError(t, log.Pool.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, log.Schema()+".events_2024_01").Scan(&there))
		require.True(t, there)
		mend()
	}

	for _, month := range []time.Time{january, january.AddDate(0, 1, 0)} {
		to, err := months.Archive(ctx, month)
		require.NoError(t, err)
		require.Equal(t, partition.Dropped, to)
		require.Equal(t, "dropped", state(t, log, month))
	}
	for _, err := range log.Stream(ctx, id, 0) {
		require.ErrorIs(t, err, eventstore.ErrArchived)
	}
	require.Equal(t, before, everything(t, withCold(t, log, blob), id))
	require.NoError(t, months.Restore(ctx, january.AddDate(0, 1, 0)))
	require.NoError(t, months.Restore(ctx, january))
	require.Equal(t, before, everything(t, log.Store, id))
}

// flipByte changes a byte in the middle of a file, and returns what changes it back.
func flipByte(t *testing.T, path string) (back func()) {
	t.Helper()
	flip := func() {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		content[len(content)/2] ^= 1
		require.NoError(t, os.WriteFile(path, content, 0o600))
	}
	flip()
	return flip
}

// A month is archived though the answer to each object is lost the first time.
func TestAMonthIsArchivedThoughAnswersAreLost(t *testing.T) {
	t.Parallel()
	log := newLog(t, 1000)
	id := firstStream(t, log)
	before := everything(t, log.Store, id)
	var mu sync.Mutex
	lost := 0
	client := proxy{lost: func(r *http.Response) bool {
		mu.Lock()
		defer mu.Unlock()
		if r.Request.Method != http.MethodPut || r.StatusCode != http.StatusOK {
			return false
		}
		lost++
		return true
	}}.client(t, shared)
	blob := open(t, client, shared.newBucket(t), "")
	months := newMonths(t, log, blob, time.Nanosecond)
	to, err := months.Archive(t.Context(), january)
	require.NoError(t, err)
	require.Equal(t, partition.Dropped, to)
	keys, err := blob.List(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, 1+len(keys), lost, "the probe, and the month's objects")
	require.Equal(t, before, everything(t, withCold(t, log, blob), id))
}
