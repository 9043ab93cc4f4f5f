package partition_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/partition"
)

func TestReport(t *testing.T) {
	t.Parallel()
	log := newLog(t, 1000)
	ctx := testContext(t)
	months := newMonths(t, log, partition.Config{Archive: newDir(t), Online: 2})
	_, err := months.Maintain(ctx)
	require.NoError(t, err)

	report, err := months.Report(ctx)
	require.NoError(t, err)
	byMonth := map[string]partition.MonthReport{}
	for _, month := range report.Months {
		byMonth[month.Month.Format("2006-01")] = month
	}
	require.Equal(t, partition.Dropped, byMonth["2024-01"].State)
	require.Positive(t, byMonth["2024-01"].Rows)
	require.Zero(t, byMonth["2024-01"].Bytes)
	require.Positive(t, byMonth["2024-01"].Sealed)
	require.NotEmpty(t, byMonth["2024-01"].Archive)
	require.Greater(t, byMonth["2024-01"].PerEvent, 100.0)
	require.True(t, byMonth["2024-01"].Over)

	require.Positive(t, report.Bytes)
}

func TestTheForecastIsAStraightLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		bytes              []int64
		growth, next, year int64
	}{
		{nil, 0, 0, 0},
		{[]int64{100}, 0, 100, 1200},
		{[]int64{100, 200}, 100, 300, 12*300 + 66*100},
		{[]int64{5000, 100, 200, 300, 400, 500, 600}, 100, 700, 12*700 + 66*100},
		{[]int64{300, 200, 100}, -100, 0, 0},
	} {
		growth, next, year := partition.Forecast(c.bytes)
		require.Equal(t, []int64{c.growth, c.next, c.year}, []int64{growth, next, year}, "%v", c.bytes)
	}
}

// The Doctor of a healthy log finds nothing; what is wrong it names, with the month.
func TestDoctor(t *testing.T) {
	t.Parallel()
	log := newLog(t, 200)
	ctx := testContext(t)
	months := newMonths(t, log, partition.Config{Archive: newDir(t)})
	finds := func() string {
		found, err := months.Doctor(ctx)
		require.NoError(t, err)
		texts := make([]string, len(found))
		for i, finding := range found {
			texts[i] = finding.Text
		}
		return strings.Join(texts, "\n")
	}
	require.Contains(t, finds(), "month 2024-01 is open: it ended more than a day ago")
	_, err := months.Maintain(ctx)
	require.NoError(t, err)
	require.Empty(t, finds())

	in := log.Schema()
	exec(t, log, `INSERT INTO `+in+`.checkpoints (name, version, shard, position, updated_at) VALUES ('given up', 2, 0, 5, now() - interval '3 days')`)
	require.Contains(t, finds(), "checkpoint given up version 2 stands at position 5")
	require.NoError(t, months.Release(ctx, "given up", 2, "nobody reads it"))
	require.Empty(t, finds())
	exec(t, log, `UPDATE `+in+`.months SET state = 'verified', changed_at = now() - interval '3 days' WHERE month = '2024-01-01'`)
	require.Contains(t, finds(), "month 2024-01 is verified: since")
	exec(t, log, `UPDATE `+in+`.months SET state = 'sealed', archive = NULL WHERE month = '2024-01-01'`)
	require.Empty(t, finds(), "it is among the months that stay")
	strict, err := newMonths(t, log, partition.Config{Archive: newDir(t), Online: 1}).Doctor(ctx)
	require.NoError(t, err)
	require.Len(t, strict, 1)
	require.Contains(t, strict[0].Text, "month 2024-01 is sealed: since")
	exec(t, log, `UPDATE `+in+`.months SET state = 'detached' WHERE month = '2024-01-01'`)
	require.Contains(t, finds(), "month 2024-01 is detached: and its quarantine is over")
	exec(t, log, `UPDATE `+in+`.months SET state = 'dropped' WHERE month = '2024-01-01'`)
	require.Contains(t, finds(), "month 2024-01 is dropped: but there is a table")
	exec(t, log, `ALTER TABLE `+in+`.events DETACH PARTITION `+in+`.events_2024_02`)
	require.Contains(t, finds(), "month 2024-02 is sealed: but its table is no partition")
	exec(t, log, `DROP TABLE `+in+`.events_2024_02`)
	require.Contains(t, finds(), "is gone")
}

// The Parquet beside the events holds the same, in types of its own; the manifest describes it.
func TestParquetHoldsTheSame(t *testing.T) {
	t.Parallel()
	log := newLog(t, 1000)
	ctx := testContext(t)
	all := collect(t, log.All(ctx, 0, eventstore.Filter{Recorded: eventstore.TimeRange{Until: february}}))
	blob := newDir(t)
	_, err := newMonths(t, log, partition.Config{Archive: blob}).Archive(ctx, january)
	require.NoError(t, err)
	content, err := blob.Get(ctx, "year=2024/month=01/part-00000.parquet")
	require.NoError(t, err)
	type row struct {
		Position      int64     `parquet:"position"`
		RecordedAt    time.Time `parquet:"recorded_at,timestamp(microsecond)"`
		StreamID      string    `parquet:"stream_id"`
		Version       int64     `parquet:"version"`
		EventID       [16]byte  `parquet:"event_id,uuid"`
		EventType     string    `parquet:"event_type"`
		SchemaVersion int32     `parquet:"schema_version"`
		OccurredAt    time.Time `parquet:"occurred_at,timestamp(microsecond)"`
		EventData     string    `parquet:"event_data"`
		Metadata      string    `parquet:"metadata"`
	}
	rows, err := parquet.Read[row](bytes.NewReader(content), int64(len(content)))
	require.NoError(t, err)
	require.Len(t, rows, len(all))
	for i, r := range rows {
		require.Equal(t, all[i], stored{
			eventstore.Position(r.Position), eventstore.StreamID(r.StreamID), eventstore.Version(r.Version), hexID(r.EventID), r.EventType,
			int(r.SchemaVersion), r.RecordedAt.UTC(), r.OccurredAt.UTC(), r.EventData, r.Metadata,
		})
	}
	file, err := parquet.OpenFile(bytes.NewReader(content), int64(len(content)))
	require.NoError(t, err)
	for _, group := range file.Metadata().RowGroups {
		for _, column := range group.Columns {
			require.Equal(t, format.Zstd, column.MetaData.Codec)
		}
	}
}

// The manifest describes the month and each object.
func TestTheManifest(t *testing.T) {
	t.Parallel()
	log := newLog(t, 1000)
	ctx := testContext(t)
	all := collect(t, log.All(ctx, 0, eventstore.Filter{Recorded: eventstore.TimeRange{Until: february}}))
	blob := newDir(t)
	_, err := newMonths(t, log, partition.Config{Archive: blob}).Archive(ctx, january)
	require.NoError(t, err)
	text, err := blob.Get(ctx, "year=2024/month=01/manifest.json")
	require.NoError(t, err)
	var manifest partition.Manifest
	require.NoError(t, json.Unmarshal(text, &manifest))
	require.Equal(t, int64(len(all)), manifest.Rows)
	require.Equal(t, all[0].Position, manifest.First)
	require.Equal(t, all[len(all)-1].Position, manifest.Last)
	require.Equal(t, log.Schema(), manifest.Schema)
	streams := map[eventstore.StreamID]bool{}
	for _, e := range all {
		streams[e.Stream] = true
	}
	require.EqualValues(t, len(streams), manifest.Streams)
	var digest string
	var migrations int
	require.NoError(t, log.Pool.QueryRow(ctx, `SELECT encode(digest, 'hex'), (SELECT count(*) FROM `+log.Schema()+`.migrations WHERE line = 'eventstore')
  FROM `+log.Schema()+`.months WHERE month = '2024-01-01'`).Scan(&digest, &migrations))
	require.Equal(t, digest, manifest.Digest)
	require.Equal(t, migrations, manifest.SchemaVersion)
	require.Equal(t, "2024-01", manifest.Month)
	earliest, latest := all[0].Recorded, all[0].Recorded
	for _, e := range all {
		if e.Recorded.Before(earliest) {
			earliest = e.Recorded
		}
		if e.Recorded.After(latest) {
			latest = e.Recorded
		}
	}
	require.Equal(t, []time.Time{earliest, latest}, []time.Time{manifest.FirstRecorded, manifest.LastRecorded})
	for _, object := range []partition.Object{manifest.Parts[0].Events, manifest.Parts[0].Parquet, manifest.Parts[0].Index} {
		bytes, err := blob.Get(ctx, object.Key)
		require.NoError(t, err)
		sum := sha256.Sum256(bytes)
		require.Equal(t, hex.EncodeToString(sum[:]), object.SHA256)
		require.EqualValues(t, len(bytes), object.Bytes)
	}
}

func hexID(id [16]byte) string {
	s := hex.EncodeToString(id[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// counted is a Blob that notes what is fetched.
type counted struct {
	partition.Blob
	keys []string
}

func (c *counted) Get(ctx context.Context, key string) ([]byte, error) {
	c.keys = append(c.keys, key)
	return c.Blob.Get(ctx, key)
}

// The cache keeps to its size, serves what it holds without the archive, and notices what was spoilt on its disk.
func TestColdFetchesWhatItNeeds(t *testing.T) {
	t.Parallel()
	log := newLog(t, 1000)
	ctx := testContext(t)
	all := collect(t, log.All(ctx, 0, eventstore.Filter{}))
	blob := &counted{Blob: newDir(t)}
	months := newMonths(t, log, partition.Config{Archive: blob})
	for _, month := range []time.Time{january, february} {
		_, err := months.Archive(ctx, month)
		require.NoError(t, err)
	}
	dir := t.TempDir()
	open := func(most int64) *eventstore.Store {
		cold, err := partition.NewCold(blob, dir, most)
		require.NoError(t, err)
		store, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema(), Cold: cold})
		require.NoError(t, err)
		return store
	}
	id := streamWithin(t, all, february, march)
	want := collect(t, open(1<<20).Stream(ctx, id, 0))
	require.NotEmpty(t, want)
	blob.keys = nil
	store := open(1 << 20)
	require.Equal(t, want, collect(t, store.Stream(ctx, id, 0)))
	require.Equal(t, want, collect(t, store.Stream(ctx, id, 0)))
	require.Equal(t, []string{"year=2024/month=02/manifest.json"}, blob.keys, "the rest is in the directory")

	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, files, 2, "the part's events and its index")
	for _, file := range files { // spoilt by somebody
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		for i := range content {
			content[i] ^= 0x55
		}
		require.NoError(t, os.WriteFile(file, content, 0o600))
		blob.keys = nil
		require.Equal(t, want, collect(t, open(1<<20).Stream(ctx, id, 0)))
		require.Len(t, blob.keys, 2, "the manifest, and what was spoilt")
	}

	require.Equal(t, all, collect(t, open(1<<20).All(ctx, 0, eventstore.Filter{})))
	files, err = filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, files, 4)
	require.Equal(t, all, collect(t, open(1).All(ctx, 0, eventstore.Filter{})), "with room for one object")
	files, err = filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, files, 1, "of the objects that were used longest ago none is left")
}

// A cache that cannot be written, of a full disk or a directory that is gone, fetches an object once all the same.
func TestColdWithoutADirectory(t *testing.T) {
	t.Parallel()
	log := newLog(t, 1000)
	ctx := testContext(t)
	all := collect(t, log.All(ctx, 0, eventstore.Filter{}))
	blob := &counted{Blob: newDir(t)}
	months := newMonths(t, log, partition.Config{Archive: blob})
	months.SetRows(100_000, 10)
	_, err := months.Archive(ctx, january)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "cache")
	cold, err := partition.NewCold(blob, dir, 0)
	require.NoError(t, err)
	require.NoError(t, os.Remove(dir))
	store, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema(), Cold: cold, PageSize: 20})
	require.NoError(t, err)
	blob.keys = nil
	require.Equal(t, all, collect(t, store.All(ctx, 0, eventstore.Filter{})))
	require.Len(t, blob.keys, 3, "%v: manifest, index and events", blob.keys)
}

// Progress goes up to the month's number of events, in every step that takes long.
func TestProgress(t *testing.T) {
	t.Parallel()
	log := newLog(t, 400)
	ctx := testContext(t)
	rows := map[string][]int64{}
	months := newMonths(t, log, partition.Config{Archive: newDir(t), Progress: func(p partition.Progress) {
		require.Equal(t, january, p.Month)
		require.True(t, p.Rows <= p.Of || p.Of == 0)
		rows[p.Step] = append(rows[p.Step], p.Rows)
	}})
	months.SetRows(30, 20)
	_, err := months.Archive(ctx, january)
	require.NoError(t, err)
	_, err = months.RestoreDrill(ctx, january)
	require.NoError(t, err)
	require.NoError(t, months.Restore(ctx, january))
	of := int64(len(collect(t, log.All(ctx, 0, eventstore.Filter{Recorded: eventstore.TimeRange{Until: february}}))))
	for _, step := range []string{"digest", "export", "verify", "drill", "restore"} {
		require.Equal(t, of, rows[step][len(rows[step])-1], step)
		if step == "export" || step == "restore" {
			require.Greater(t, len(rows[step]), 3)
			require.True(t, slices.IsSorted(rows[step]), step)
		}
	}
}

// streamWithin is a stream that lies within some time.
func streamWithin(t *testing.T, all []stored, from, until time.Time) eventstore.StreamID {
	t.Helper()
	inside := map[eventstore.StreamID]bool{}
	for _, e := range all {
		within := !e.Recorded.Before(from) && e.Recorded.Before(until)
		if was, seen := inside[e.Stream]; !seen || was {
			inside[e.Stream] = within
		}
	}
	for id, yes := range inside {
		if yes && strings.HasPrefix(string(id), "discussion") {
			return id
		}
	}
	t.Fatal("no stream lies within a month")
	return ""
}
