package snapshot

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/migrate"
	"github.com/sight-platform/hindsight/internal/pg"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

//go:embed sql/*.sql
var sqlFiles embed.FS

// Migrate makes this package's tables in the log's schema, or brings them up to date.
func Migrate(ctx context.Context, store *eventstore.Store) error {
	if store.Pool() == nil {
		return eventstore.ErrNoPool
	}
	line, err := migrate.Parse("snapshot", schemaFiles)
	if err != nil {
		return err
	}
	return line.Run(ctx, store.Pool(), store.Schema())
}

// Fold says how a state is made of a stream's events.
type Fold[S any] struct {
	// Name of the state: lower-case letters, digits and underscores.
	Name string
	// Version must be raised whenever New or Apply change what comes out: snapshots of other versions are not used.
	Version int
	// Format must be raised whenever the state's JSON changes its shape. Defaults to 1.
	Format int
	// New makes the state of a stream without events. It must survive encoding/json.
	New func(eventstore.StreamID) S
	// Apply makes the next state. It may change the one it is given.
	Apply func(S, eventstore.Recorded) (S, error)
}

// Config of a [Loader].
type Config struct {
	// Every is after how many events a new snapshot is written. Defaults to 100.
	Every int
	// Keep is how many older snapshots of a stream are kept, for as-of loads. Defaults to 20.
	Keep int
	// Logger is told what went wrong with snapshots. Defaults to none.
	Logger *slog.Logger
	// Ignored is called for a snapshot that was not used though its key fits. It may be nil.
	Ignored func(Ignored)
}

// Ignored is a snapshot that was found and not used. It has been deleted.
type Ignored struct {
	StreamID eventstore.StreamID
	Fold     string
	Version  eventstore.Version
	Reason   string
}

// Loader loads states. It is safe for concurrent use.
type Loader[S any] struct {
	store  *eventstore.Store
	fold   Fold[S]
	config Config
	sql    map[string]string
}

// NewLoader makes a loader. It neither connects nor creates anything. Errors match [eventstore.ErrInvalid] or
// [eventstore.ErrNoPool].
func NewLoader[S any](store *eventstore.Store, fold Fold[S], config Config) (*Loader[S], error) {
	if fold.Format == 0 {
		fold.Format = 1
	}
	if config.Every == 0 {
		config.Every = 100
	}
	if config.Keep == 0 {
		config.Keep = 20
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	fail := func(field, reason string) error {
		return &eventstore.InvalidError{Index: -1, Field: field, Reason: reason}
	}
	named, _ := regexp.MatchString(`^[a-z_][a-z0-9_]{0,62}$`, fold.Name)
	switch {
	case store.Pool() == nil:
		return nil, eventstore.ErrNoPool
	case !named:
		return nil, fail("Fold.Name", fmt.Sprintf("%q is not made of up to 63 lower-case letters, digits and underscores", fold.Name))
	case fold.Version < 1 || fold.Format < 1:
		return nil, fail("Fold.Version", "and Format start at 1")
	case fold.New == nil || fold.Apply == nil:
		return nil, fail("Fold", "has no New or no Apply")
	case config.Every < 1 || config.Keep < 1:
		return nil, fail("Config", "has a negative Every or Keep")
	}
	l := &Loader[S]{store: store, fold: fold, config: config, sql: map[string]string{}}
	for _, name := range []string{"newest", "save", "drop", "moment"} {
		text, err := sqlFiles.ReadFile("sql/" + name + ".sql")
		if err != nil {
			return nil, err
		}
		l.sql[name] = pg.QuoteSchema(store.Schema()).SQL(string(text))
	}
	return l, nil
}

// Loaded is a state and how it came about.
type Loaded[S any] struct {
	State S
	// Version of the last event in it; 0 for a stream that had none.
	Version eventstore.Version
	// Snapshot is the version of the snapshot that was used; 0 if none was.
	Snapshot eventstore.Version
	// Read is how many events were read for it.
	Read int

	last     eventstore.Recorded
	occurred time.Time // the latest of all events in it
}

// Load returns a stream's state now. Where it had to read Config.Every events or more it leaves a snapshot behind. The error
// matches [eventstore.ErrStreamNotFound] for a stream without events, or is that of reading or of Apply.
func (l *Loader[S]) Load(ctx context.Context, id eventstore.StreamID) (Loaded[S], error) {
	found, err := l.load(ctx, id, bounds{}.open())
	if err == nil && found.Version == 0 {
		err = eventstore.ErrStreamNotFound
	}
	if err != nil {
		return found, fmt.Errorf("loading %s: %w", id, err)
	}
	if found.Read > l.config.Every {
		l.save(ctx, id, found)
	}
	return found, nil
}

// load folds what lies within bounds, from the newest snapshot that does.
func (l *Loader[S]) load(ctx context.Context, id eventstore.StreamID, b bounds) (Loaded[S], error) {
	start, err := l.newest(ctx, id, b)
	if err != nil {
		return Loaded[S]{}, err
	}
	found, err := l.foldFrom(ctx, id, start, b)
	if errors.Is(err, errMoved) {
		l.ignore(ctx, id, start.Version, "the event it ends with is not in the stream")
		found, err = l.foldFrom(ctx, id, Loaded[S]{State: l.fold.New(id)}, b)
	}
	return found, err
}

var errMoved = errors.New("the snapshot's event is not in the stream")

// foldFrom reads the stream from the snapshot's own last event on, which must still be there.
func (l *Loader[S]) foldFrom(ctx context.Context, id eventstore.StreamID, start Loaded[S], b bounds) (Loaded[S], error) {
	found := start
	checked := start.Version == 0
	for event, err := range l.store.Stream(ctx, id, max(start.Version-1, 0)) {
		switch {
		case errors.Is(err, eventstore.ErrStreamNotFound) && checked:
			return found, nil
		case errors.Is(err, eventstore.ErrStreamNotFound):
			return found, errMoved
		case err != nil:
			return found, err
		}
		found.Read++
		if !checked {
			if event.Version != start.Version || event.ID != start.last.ID {
				return found, errMoved
			}
			found.last, checked = event, true
			continue
		}
		if b.ends(event) {
			break
		}
		if !b.holds(event) {
			continue
		}
		if found.State, err = l.fold.Apply(found.State, event); err != nil {
			return found, fmt.Errorf("applying event %d: %w", event.Version, err)
		}
		found.Version, found.last = event.Version, event
		if event.OccurredAt.After(found.occurred) {
			found.occurred = event.OccurredAt
		}
	}
	if !checked {
		return found, errMoved
	}
	return found, nil
}

// newest is the newest snapshot within bounds, or the state of a stream without events.
func (l *Loader[S]) newest(ctx context.Context, id eventstore.StreamID, b bounds) (Loaded[S], error) {
	none := Loaded[S]{State: l.fold.New(id)}
	var version int64
	var event uuid.UUID
	var occurred time.Time
	var state string
	var digest []byte
	err := l.store.Pool().QueryRow(ctx, l.sql["newest"], string(id), l.fold.Name, l.fold.Version, l.fold.Format,
		int64(b.version), int64(b.position), b.recorded, b.occurred).Scan(&version, &event, &occurred, &state, &digest)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return none, nil
	case err != nil:
		return none, fmt.Errorf("reading the newest snapshot: %w", err)
	}
	reason := ""
	found := Loaded[S]{Version: eventstore.Version(version), Snapshot: eventstore.Version(version), occurred: occurred.UTC()}
	found.last.ID = event
	if string(digest) != string(l.digest(id, found.Version, event, state)) {
		reason = "its bytes are not those that were stored"
	} else if err := json.Unmarshal([]byte(state), &found.State); err != nil {
		reason = err.Error()
	}
	if reason != "" {
		l.ignore(ctx, id, found.Version, reason)
		return none, nil
	}
	return found, nil
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

// save leaves a snapshot behind; a failure costs the next load some time, and nothing else.
func (l *Loader[S]) save(ctx context.Context, id eventstore.StreamID, found Loaded[S]) {
	state, err := json.Marshal(found.State)
	if err == nil {
		_, err = l.store.Pool().Exec(ctx, l.sql["save"], string(id), l.fold.Name, l.fold.Version, l.fold.Format, int64(found.Version), found.last.ID,
			int64(found.last.Position), found.last.RecordedAt, found.occurred, string(state), l.digest(id, found.Version, found.last.ID, string(state)), l.config.Keep)
	}
	if err != nil {
		l.config.Logger.WarnContext(ctx, "writing a snapshot", "stream", id, "fold", l.fold.Name, "err", err)
	}
}

// ignore deletes a snapshot that cannot be used, and says so.
func (l *Loader[S]) ignore(ctx context.Context, id eventstore.StreamID, version eventstore.Version, reason string) {
	l.config.Logger.WarnContext(ctx, "a snapshot is not used", "stream", id, "fold", l.fold.Name, "version", version, "reason", reason)
	if l.config.Ignored != nil {
		l.config.Ignored(Ignored{StreamID: id, Fold: l.fold.Name, Version: version, Reason: reason})
	}
	if _, err := l.store.Pool().Exec(ctx, l.sql["drop"], string(id), l.fold.Name, l.fold.Version, l.fold.Format, int64(version)); err != nil {
		l.config.Logger.WarnContext(ctx, "deleting a snapshot", "stream", id, "fold", l.fold.Name, "err", err)
	}
}
