package snapshot

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
)

//go:embed sql/*.sql
var sqlFiles embed.FS

// queries are the statements in sql/, by file name.
type queries map[string]string

func newQueries(schema pg.Schema) (queries, error) {
	files, err := sqlFiles.ReadDir("sql")
	if err != nil {
		return nil, err
	}
	sql := queries{}
	for _, file := range files {
		text, err := sqlFiles.ReadFile(path.Join("sql", file.Name()))
		if err != nil {
			return nil, err
		}
		sql[strings.TrimSuffix(file.Name(), ".sql")] = schema.SQL(string(text))
	}
	return sql, nil
}

// saved is a row of the table of snapshots.
type saved struct {
	version  eventstore.Version
	event    uuid.UUID
	position eventstore.Position
	recorded time.Time
	occurred time.Time
	state    string
	digest   []byte
}

func (l *Loader[S]) encode(found *Loaded[S]) (saved, error) {
	state, err := json.Marshal(found.State)
	if err != nil {
		return saved{}, err
	}
	return saved{
		version: found.Version, event: found.last.ID, position: found.last.Position, recorded: found.last.RecordedAt, occurred: found.occurred,
		state: string(state), digest: l.digest(found.StreamID, found.Version, found.last.ID, string(state)),
	}, nil
}

// digest covers all that a snapshot is used for, so that none can be exchanged for another.
func (l *Loader[S]) digest(id eventstore.StreamID, version eventstore.Version, event uuid.UUID, state string) []byte {
	hash := sha256.New()
	for _, text := range []string{string(id), l.fold.Name, fmt.Sprintf("%d/%d/%d/%s", l.fold.Version, l.fold.Format, version, event), state} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(text)))
		_, _ = hash.Write(length[:])
		_, _ = hash.Write([]byte(text))
	}
	return hash.Sum(nil)
}

// foundSnapshot is a snapshot as it is read.
type foundSnapshot struct {
	StreamID string
	Version  int64
	Event    uuid.UUID
	Occurred time.Time
	State    string
	Digest   []byte
	Age      time.Duration
}

// newest is the newest snapshot within bounds, or the state of a stream without events.
func (l *Loader[S]) newest(ctx context.Context, id eventstore.StreamID, b bounds) (Loaded[S], error) {
	found, err := l.newestOf(ctx, []string{string(id)}, b)
	if err != nil {
		return Loaded[S]{}, err
	}
	return found[0], nil
}

// newestOf is newest for many streams in one round trip. The states are being decoded when it returns.
func (l *Loader[S]) newestOf(ctx context.Context, ids []string, b bounds) ([]Loaded[S], error) {
	rows, err := l.store.Pool().Query(ctx, l.sql["newest"], ids, l.fold.Name, l.fold.Version, l.fold.Format,
		int64(b.version), int64(b.position), b.recorded, b.occurred)
	if err != nil {
		return nil, fmt.Errorf("reading snapshots: %w", explained(err))
	}
	snapshots, err := pgx.CollectRows(rows, pgx.RowToStructByPos[foundSnapshot])
	if err != nil {
		return nil, fmt.Errorf("reading snapshots: %w", explained(err))
	}
	out := make([]Loaded[S], len(ids))
	for i, id := range ids {
		out[i] = l.zero(eventstore.StreamID(id))
		if len(snapshots) > 0 && snapshots[0].StreamID == id {
			out[i] = l.begin(snapshots[0])
			snapshots = snapshots[1:]
		}
	}
	return out, nil
}

// begin is what a snapshot says without its state, which is decoded beside the reading of the events after it: for a large one
// that takes as long.
func (l *Loader[S]) begin(row foundSnapshot) Loaded[S] {
	start := l.zero(eventstore.StreamID(row.StreamID))
	start.Version, start.Snapshot, start.occurred = eventstore.Version(row.Version), eventstore.Version(row.Version), row.Occurred.UTC()
	start.last.ID = row.Event
	start.old = l.config.OlderThan > 0 && row.Age > l.config.OlderThan
	decoding := make(chan decoded[S], 1)
	go func() { decoding <- l.decode(row, start.State) }()
	start.decoding = decoding
	return start
}

type decoded[S any] struct {
	state S
	err   error
}

// decode fills a new state. The error says why the snapshot cannot be used.
func (l *Loader[S]) decode(row foundSnapshot, state S) decoded[S] {
	if string(row.Digest) != string(l.digest(eventstore.StreamID(row.StreamID), eventstore.Version(row.Version), row.Event, row.State)) {
		return decoded[S]{err: &unusableError{"its bytes are not those that were stored"}}
	}
	if err := json.Unmarshal([]byte(row.State), &state); err != nil {
		return decoded[S]{err: &unusableError{err.Error()}}
	}
	return decoded[S]{state: state}
}

// unusableError says why a snapshot is not used.
type unusableError struct{ reason string }

func (e *unusableError) Error() string { return "the snapshot cannot be used: " + e.reason }

// ready waits for the state of a snapshot.
func (s *Loaded[S]) ready() error {
	if s.decoding == nil {
		return nil
	}
	got := <-s.decoding
	s.decoding, s.State = nil, got.state
	return got.err
}

const saveTimeout = 10 * time.Second

// save writes snapshots, oldest first, as far as they are among the newest that are kept, and deletes those that are not.
func (l *Loader[S]) save(ctx context.Context, id eventstore.StreamID, states []saved) error {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	n := len(states)
	versions, positions := make([]int64, n), make([]int64, n)
	events := make([]string, n) // as text: a pooler's exec mode knows no arrays of UUIDs
	recorded, occurred := make([]time.Time, n), make([]time.Time, n)
	texts, digests := make([]string, n), make([][]byte, n)
	for i, s := range states {
		versions[i], positions[i], events[i] = int64(s.version), int64(s.position), s.event.String()
		recorded[i], occurred[i], texts[i], digests[i] = s.recorded, s.occurred, s.state, s.digest
	}
	_, err := l.store.Pool().Exec(ctx, l.sql["save"], string(id), l.fold.Name, l.fold.Version, l.fold.Format, l.config.Keep,
		versions, events, positions, recorded, occurred, texts, digests)
	return err
}

// leave writes snapshots; a failure costs the next load some time, and nothing else.
func (l *Loader[S]) leave(ctx context.Context, id eventstore.StreamID, states []saved) {
	if len(states) == 0 {
		return
	}
	if err := l.save(ctx, id, states); err != nil {
		l.config.Logger.WarnContext(ctx, "writing snapshots", "stream", id, "fold", l.fold.Name, "err", err)
	}
}

// ignore deletes a snapshot that cannot be used, and says so.
func (l *Loader[S]) ignore(ctx context.Context, start Loaded[S], unusable *unusableError) {
	id, version, reason := start.StreamID, start.Snapshot, unusable.reason
	l.config.Logger.WarnContext(ctx, "a snapshot is not used", "stream", id, "fold", l.fold.Name, "version", version, "reason", reason)
	if l.config.Ignored != nil {
		l.config.Ignored(Ignored{StreamID: id, Fold: l.fold.Name, Version: version, Reason: reason})
	}
	if _, err := l.store.Pool().Exec(ctx, l.sql["drop"], string(id), l.fold.Name, l.fold.Version, l.fold.Format, int64(version)); err != nil {
		l.config.Logger.WarnContext(ctx, "deleting a snapshot", "stream", id, "fold", l.fold.Name, "err", err)
	}
}
