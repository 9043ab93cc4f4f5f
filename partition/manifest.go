package partition

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/sight-platform/hindsight/eventstore"
)

// format is the version of what an archive looks like.
const format = 1

// Manifest describes the archive of a month. It is written last: an archive without one is unfinished.
type Manifest struct {
	Format        int                 `json:"format"`
	Log           uuid.UUID           `json:"log"`    // that of table partition_log
	Schema        string              `json:"schema"` // of the log
	SchemaVersion int                 `json:"schema_version"`
	Month         string              `json:"month"` // 2026-11
	Rows          int64               `json:"rows"`
	Streams       int64               `json:"streams"`
	First         eventstore.Position `json:"first_position"`
	Last          eventstore.Position `json:"last_position"`
	FirstRecorded time.Time           `json:"first_recorded_at"`
	LastRecorded  time.Time           `json:"last_recorded_at"`
	Digest        string              `json:"digest"` // as in the month registry, hexadecimal
	Parts         []Part              `json:"parts"`  // in position order

	seen map[[8]byte]struct{} // the streams, while it is made: the beginnings of their SHA-256
}

// add notes a part and the streams in it.
func (m *Manifest) add(part Part, of map[eventstore.StreamID][]seen) {
	if m.seen == nil {
		m.seen = map[[8]byte]struct{}{}
	}
	for id := range of {
		sum := sha256.Sum256([]byte(id))
		m.seen[[8]byte(sum[:8])] = struct{}{}
	}
	if len(m.Parts) == 0 {
		m.FirstRecorded = part.FirstRecorded
	}
	m.FirstRecorded, m.LastRecorded = earlier(m.FirstRecorded, part.FirstRecorded), later(m.LastRecorded, part.LastRecorded)
	m.Parts, m.Streams = append(m.Parts, part), int64(len(m.seen))
}

func (m *Manifest) rows() (n int64) {
	for _, part := range m.Parts {
		n += part.Rows
	}
	return n
}

// Part is a stretch of a month's events in three objects of one name.
type Part struct {
	Rows          int64               `json:"rows"`
	First         eventstore.Position `json:"first_position"`
	Last          eventstore.Position `json:"last_position"`
	FirstRecorded time.Time           `json:"first_recorded_at"`
	LastRecorded  time.Time           `json:"last_recorded_at"`
	Streams       bloom               `json:"streams"` // a Bloom filter, base64
	Events        Object              `json:"events"`  // NDJSON in zstd frames: what a restore reads
	Parquet       Object              `json:"parquet"` // the same for DuckDB, Spark, ClickHouse or Athena
	Index         Object              `json:"index"`   // where in Events each stream is
}

// Object is an object of an archive.
type Object struct {
	Key    string `json:"key"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // hexadecimal
}

func describe(key string, content []byte) Object {
	sum := sha256.Sum256(content)
	return Object{Key: key, Bytes: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
}

// fetch reads an object back and compares it with what was written.
func fetch(ctx context.Context, blob Blob, month time.Time, want Object) ([]byte, error) {
	damaged := func(problem string, err error) error {
		return &DamagedError{Month: month, Key: want.Key, Problem: problem, Err: err}
	}
	content, err := blob.Get(ctx, want.Key)
	switch found := describe(want.Key, content); {
	case errors.Is(err, ErrNotFound):
		return nil, damaged("is missing", err)
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", want.Key, err)
	case found.Bytes != want.Bytes:
		return nil, damaged(fmt.Sprintf("has %d bytes, %d were written", found.Bytes, want.Bytes), nil)
	case found != want:
		return nil, damaged("has other bytes than were written: its SHA-256 is "+found.SHA256, nil)
	}
	return content, nil
}

// folder is where a month's objects are: a Hive partition.
func folder(month time.Time) string { return month.Format("year=2006/month=01/") }

func manifestKey(month time.Time) string { return folder(month) + "manifest.json" }

// archiveOf is what the registry keeps of a manifest.
func archiveOf(o Object) string { return fmt.Sprintf("%s %d sha256:%s", o.Key, o.Bytes, o.SHA256) }

func parseArchive(archive string) (o Object, err error) {
	if _, err = fmt.Sscanf(archive, "%s %d sha256:%s", &o.Key, &o.Bytes, &o.SHA256); err != nil {
		return o, fmt.Errorf("the month registry says %q of the archive: %w", archive, err)
	}
	return o, nil
}

// readManifest reads the manifest that the registry names.
func readManifest(ctx context.Context, blob Blob, month time.Time, archive string) (*Manifest, error) {
	object, err := parseArchive(archive)
	if err != nil {
		return nil, err
	}
	content, err := fetch(ctx, blob, month, object)
	if err != nil {
		return nil, err
	}
	return parseManifest(month, object.Key, content)
}

func parseManifest(month time.Time, key string, content []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(content, &m); err != nil {
		return nil, &DamagedError{Month: month, Key: key, Problem: "is no manifest", Err: err}
	}
	if m.Format != format {
		return nil, &DamagedError{Month: month, Key: key, Problem: fmt.Sprintf("has format %d, this program reads %d", m.Format, format)}
	}
	if want := month.Format("2006-01"); m.Month != want {
		return nil, &DamagedError{Month: month, Key: key, Problem: fmt.Sprintf("is of month %q", m.Month)}
	}
	return &m, nil
}

func partName(n int, kind string) string {
	return fmt.Sprintf("part-%05d.%s", n, strings.TrimPrefix(kind, "."))
}
