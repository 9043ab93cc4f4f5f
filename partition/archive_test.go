package partition_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/partition"
)

// reading is everything that a log's readers give.
type reading struct {
	All      []stored
	Filtered map[string][]stored
	Streams  map[eventstore.StreamID][]stored
	Backward map[eventstore.StreamID][]stored
	Occurred map[eventstore.StreamID]eventstore.Version
	Later    []stored // from a position in the middle
	Chunked  []stored
	Paged    []stored
	Parts    map[eventstore.StreamID][]stored // versions 2 to 4
}

func readAll(t *testing.T, store *eventstore.Store, streams []eventstore.StreamID, middle eventstore.Position, filters []eventstore.Filter) reading {
	t.Helper()
	ctx := testContext(t)
	r := reading{
		All: collect(t, store.All(ctx, 0, eventstore.Filter{})), Later: collect(t, store.All(ctx, middle, eventstore.Filter{})),
		Filtered: map[string][]stored{}, Streams: map[eventstore.StreamID][]stored{}, Backward: map[eventstore.StreamID][]stored{},
		Occurred: map[eventstore.StreamID]eventstore.Version{}, Parts: map[eventstore.StreamID][]stored{},
	}
	r.Chunked = collect(t, func(yield func(eventstore.Recorded, error) bool) {
		for chunk, err := range store.Chunks(ctx, 0, eventstore.Filter{}) {
			for _, e := range chunk.Events {
				yield(e, nil)
			}
			require.NoError(t, err)
		}
	})
	for query := (eventstore.PageQuery{Limit: 500}); ; {
		page, err := store.Page(ctx, query)
		require.NoError(t, err)
		for _, e := range page.Events {
			r.Paged = append(r.Paged, collect(t, func(yield func(eventstore.Recorded, error) bool) { yield(e, nil) })...)
		}
		if len(page.Events) < query.Limit {
			break
		}
		query.After = page.Next
	}
	for _, filter := range filters {
		r.Filtered[fmt.Sprint(filter)] = collect(t, store.All(ctx, 0, filter))
	}
	for _, id := range streams {
		r.Streams[id] = collect(t, store.Stream(ctx, id, 0))
		r.Backward[id] = collect(t, store.Backward(ctx, id, 0))
		r.Parts[id] = collect(t, store.StreamTo(ctx, id, 1, 4))
		half := r.Streams[id][len(r.Streams[id])/2].Occurred
		var err error
		r.Occurred[id], err = store.LastOccurred(ctx, id, half)
		require.NoError(t, err)
	}
	return r
}

// someStreams are streams of each length and month.
func someStreams(all []stored) (ids []eventstore.StreamID) {
	seen := map[eventstore.StreamID]bool{}
	random := rand.New(rand.NewPCG(1, 1))
	for _, e := range all {
		if !seen[e.Stream] && random.IntN(4) == 0 {
			ids = append(ids, e.Stream)
		}
		seen[e.Stream] = true
	}
	return ids
}

// Guarantees M1 and M5: what is archived is read through, in order and to the byte, page by page; what cannot be read so stops with the month's
// name; and what is restored reads as before.
func TestAnArchivedMonthReadsAsBefore(t *testing.T) {
	t.Parallel()
	log := newLog(t, 4000)
	ctx := testContext(t)
	all := collect(t, log.All(ctx, 0, eventstore.Filter{}))
	streams := someStreams(all)
	require.Greater(t, len(streams), 20)
	head, err := log.Head(ctx, all[0].Stream)
	require.NoError(t, err)
	filters := []eventstore.Filter{
		{Types: []string{all[0].Type, all[len(all)/2].Type}},
		{Categories: []string{"discussion"}},
		{Project: head.Project, Recorded: eventstore.TimeRange{From: january.AddDate(0, 0, 10), Until: march.AddDate(0, 0, 3)}},
		{Occurred: eventstore.TimeRange{From: february}},
	}
	middle := all[len(all)/3].Position
	before := readAll(t, log.Store, streams, middle, filters)

	// A store whose connections have prepared their statements, and which only reads streams: it does not hear of months.
	prepared, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema()})
	require.NoError(t, err)
	early := streamWithin(t, all, january, february)
	for range 20 {
		require.NotEmpty(t, collect(t, prepared.Stream(ctx, early, 0)))
	}
	blob := newDir(t)
	months := newMonths(t, log, partition.Config{Archive: blob})
	for _, month := range []time.Time{january, february} {
		state, err := months.Archive(ctx, month)
		require.NoError(t, err)
		require.Equal(t, partition.Dropped, state)
	}
	require.Equal(t, "dropped", states(t, log)["2024-01"])
	for range 20 {
		_, err = gather(prepared.Stream(ctx, early, 0))
		require.ErrorIs(t, err, eventstore.ErrArchived)
	}

	for _, pageSize := range []int{7, 1000} {
		require.Equal(t, before, readAll(t, withCold(t, log, blob, pageSize), streams, middle, filters))
	}

	// A store that knows the months of before, and one that does not.
	fresh, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema()})
	require.NoError(t, err)
	for _, store := range []*eventstore.Store{log.Store, fresh} {
		var archived *eventstore.ArchivedError
		for event, err := range store.All(ctx, 0, eventstore.Filter{}) {
			require.ErrorAs(t, err, &archived, "event %d", event.Position)
			require.Equal(t, january, archived.Month)
		}
		require.NotNil(t, archived)
		for _, id := range streams {
			want := before.Streams[id]
			for _, err := range store.Stream(ctx, id, 0) {
				if want[0].Recorded.Before(march) {
					require.ErrorIs(t, err, eventstore.ErrArchived)
					require.ErrorIs(t, func() error { _, err := store.LastOccurred(ctx, id, want[0].Occurred); return err }(), eventstore.ErrArchived)
					break
				}
				require.NoError(t, err)
			}
		}
		require.Equal(t, len(collect(t, store.All(ctx, 0, eventstore.Filter{Recorded: eventstore.TimeRange{From: march}}))),
			len(collect(t, store.All(ctx, lastBefore(all, march), eventstore.Filter{}))))
	}

	require.NoError(t, months.Restore(ctx, february))
	require.NoError(t, months.Restore(ctx, january))
	require.Equal(t, before, readAll(t, log.Store, streams, middle, filters))
	require.ErrorIs(t, months.Restore(ctx, january), partition.ErrNotYet)
	state, err := months.Archive(ctx, january)
	require.NoError(t, err)
	require.Equal(t, partition.Dropped, state)
	require.Equal(t, before, readAll(t, withCold(t, log, blob, 100), streams, middle, filters))
}

func lastBefore(all []stored, at time.Time) (last eventstore.Position) {
	for _, e := range all {
		if e.Recorded.Before(at) {
			last = max(last, e.Position)
		}
	}
	return last
}

// Guarantee M5: of many parts and frames only those are fetched that hold the stream, and once.
func TestOnlyWhatHoldsAStreamIsFetched(t *testing.T) {
	t.Parallel()
	log := newLog(t, 2000)
	ctx := testContext(t)
	all := collect(t, log.All(ctx, 0, eventstore.Filter{}))
	blob := &counted{Blob: newDir(t)}
	months := newMonths(t, log, partition.Config{Archive: blob})
	months.SetRows(50, 7)
	_, err := months.Archive(ctx, february)
	require.NoError(t, err)
	keys, err := blob.List(ctx, "year=2024/month=02/")
	require.NoError(t, err)
	parts := 0
	for _, key := range keys {
		if strings.HasSuffix(key, ".parquet") {
			parts++
		}
	}
	require.Greater(t, parts, 5)
	for _, pageSize := range []int{3, 1000} {
		require.Equal(t, all, collect(t, withCold(t, log, blob, pageSize).All(ctx, 0, eventstore.Filter{})))
	}
	store := withCold(t, log, blob, 5)
	id := streamWithin(t, all, february, march)
	holds := map[string]bool{}
	blob.keys = nil
	got := collect(t, store.Stream(ctx, id, 0))
	require.NotEmpty(t, got)
	for _, key := range blob.keys {
		require.False(t, holds[key], "%s is fetched twice", key)
		holds[key] = true
	}
	fetched, indexes := 0, 0
	for key := range holds {
		require.NotContains(t, key, ".parquet")
		if strings.HasSuffix(key, ".ndjson.zst") {
			fetched++
		}
		if strings.HasSuffix(key, ".index.zst") {
			indexes++
		}
	}
	positions := map[eventstore.Position]int{}
	n := 0
	for _, e := range all {
		if !e.Recorded.Before(february) && e.Recorded.Before(march) {
			positions[e.Position] = n / 50
			n++
		}
	}
	want := map[int]bool{}
	for _, e := range got {
		want[positions[e.Position]] = true
	}
	require.Equal(t, len(want), fetched)
	require.Less(t, fetched, parts)
	require.InDelta(t, len(want), indexes, 2, "a Bloom filter is wrong about one part in a hundred")
}

// An archive is deleted when Config.Archived says so, and only then; what is half deleted is deleted by the next run.
func TestOldArchivesAreDeleted(t *testing.T) {
	t.Parallel()
	log := newLog(t, 200)
	ctx := testContext(t)
	blob := newDir(t)
	keep := newMonths(t, log, partition.Config{Archive: blob, Online: 1})
	_, err := keep.Maintain(ctx)
	require.NoError(t, err)
	store := withCold(t, log, blob, 100)
	require.NotEmpty(t, collect(t, store.All(ctx, 0, eventstore.Filter{})))
	report, err := keep.Report(ctx)
	require.NoError(t, err)
	over := 0
	for _, month := range report.Months {
		if month.Over {
			over++
		}
	}
	most := newMonths(t, log, partition.Config{Archive: blob, Online: 1, Archived: over - 2})
	_, err = most.Maintain(ctx)
	require.NoError(t, err)
	keys, err := blob.List(ctx, "year=2024/month=01/")
	require.NoError(t, err)
	require.Empty(t, keys)
	keys, err = blob.List(ctx, "year=2024/month=02/")
	require.NoError(t, err)
	require.NotEmpty(t, keys)
	for _, err := range store.All(ctx, 0, eventstore.Filter{}) {
		require.ErrorIs(t, err, eventstore.ErrArchived)
		require.ErrorContains(t, err, "not kept any more")
		break
	}
	require.ErrorIs(t, most.Restore(ctx, january), partition.ErrNoArchive)
	require.NotEmpty(t, collect(t, store.All(ctx, 0, eventstore.Filter{Recorded: eventstore.TimeRange{From: february}})))
	require.NoError(t, blob.Put(ctx, "year=2024/month=01/left", []byte("x")))
	_, err = most.Maintain(ctx)
	require.NoError(t, err)
	keys, err = blob.List(ctx, "year=2024/month=01/")
	require.NoError(t, err)
	require.Empty(t, keys)
}
