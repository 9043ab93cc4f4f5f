package snapshot

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"encoding/json"
	"fmt"
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

func newQueries(schema pg.Schema) (queries, error) { return schema.Files(sqlFiles) }

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
	s := saved{
		version: found.Version, event: found.last.ID, position: found.last.Position, recorded: found.last.RecordedAt, occurred: found.occurred,
		state: string(state),
	}
	s.digest = l.digest(found.StreamID, s)
	return s, nil
}

// digest covers all that a snapshot is chosen by and used for, so that none can be exchanged for another.
func (l *Loader[S]) digest(id eventstore.StreamID, s saved) []byte {
	hash := sha256.New()
	place := fmt.Sprintf("%d/%d/%d/%s/%d/%d/%d", l.fold.Version, l.fold.Format, s.version, s.event, s.position, s.recorded.UnixMicro(), s.occurred.UnixMicro())
	for _, text := range []string{string(id), l.fold.Name, place, s.state} {
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
	Position int64
	Recorded time.Time
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

// newestOf is newest for many streams in one round trip. The states are not decoded yet.
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

// begin is what a snapshot says without its state.
func (l *Loader[S]) begin(row foundSnapshot) Loaded[S] {
	return Loaded[S]{
		StreamID: eventstore.StreamID(row.StreamID), Version: eventstore.Version(row.Version), Snapshot: eventstore.Version(row.Version),
		last: eventstore.Recorded{ID: row.Event}, occurred: row.Occurred.UTC(),
		old: l.config.OlderThan > 0 && row.Age > l.config.OlderThan, row: &row,
	}
}

// decoding begins to decode the state of a snapshot, beside the reading of the events after it: for a large one that takes as
// long. The function that it returns waits for the state.
func (l *Loader[S]) decoding(start Loaded[S]) func() (S, error) {
	if start.row == nil {
		return func() (S, error) { return start.State, nil }
	}
	type decoded struct {
		state S
		err   error
	}
	done := make(chan decoded, 1)
	go func() {
		state, err := l.decode(start.row)
		done <- decoded{state, err}
	}()
	return func() (S, error) {
		got := <-done
		return got.state, got.err
	}
}

// decode makes a state of its JSON alone: what New puts into a state need not be in all that come of it. The error says why the
// snapshot cannot be used.
func (l *Loader[S]) decode(row *foundSnapshot) (state S, err error) {
	defer func() { // the state's own methods may panic, and this may be a goroutine of its own
		if value := recover(); value != nil {
			err = &unusableError{fmt.Sprintf("panic: %v", value)}
		}
	}()
	s := saved{
		version: eventstore.Version(row.Version), event: row.Event, position: eventstore.Position(row.Position),
		recorded: row.Recorded, occurred: row.Occurred, state: row.State,
	}
	if string(row.Digest) != string(l.digest(eventstore.StreamID(row.StreamID), s)) {
		return state, &unusableError{"its row is not the one that was stored"}
	}
	if err := json.Unmarshal([]byte(row.State), &state); err != nil {
		return state, &unusableError{err.Error()}
	}
	return state, nil
}

// unusableError says why a snapshot is not used.
type unusableError struct{ reason string }

func (e *unusableError) Error() string { return "the snapshot cannot be used: " + e.reason }

// saveTimeout bounds how long a load waits for somebody who has locked the snapshots.
const saveTimeout = time.Second

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
