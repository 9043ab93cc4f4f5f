package eventstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sight-platform/hindsight/internal/migrate"
	"github.com/sight-platform/hindsight/internal/pg"
)

// Errors to match with errors.Is. Where a struct below carries the facts, errors.As gives it.
var (
	// ErrConflict: the stream is not where the append expected it; see [ConflictError]. Nothing was written, and a
	// caller's READ COMMITTED transaction goes on.
	ErrConflict = errors.New("the stream is not as expected")
	// ErrSerialization: the transaction lost a race under stricter isolation, or a deadlock; repeat all of it.
	ErrSerialization = errors.New("the transaction lost a race and must be repeated")
	// ErrInvalid: an argument breaks a stated limit; see [InvalidError]. Nothing was sent to the database.
	ErrInvalid = errors.New("invalid argument")
	// ErrDuplicateID: an event id is in the log already, in another stream of the same month. Nothing was written; a caller's
	// transaction has been aborted.
	ErrDuplicateID = errors.New("the event id is in the log already")
	// ErrPartialRetry: some of an append's event ids are in the stream already, but not all of them together: it is no
	// repetition of an append, and no new one. Nothing was written.
	ErrPartialRetry = errors.New("only some of the event ids are in the stream already")
	// ErrOutcomeUnknown: the connection or the context ended before the database answered; the append may or may not be
	// in the log. Repeat it with the same event ids; see [OutcomeUnknownError].
	ErrOutcomeUnknown = errors.New("the outcome of the append is unknown")
	// ErrClock: the stream's head is further ahead of the clock than Config.MaxClockSkew; see [ClockError].
	ErrClock = errors.New("the clock is behind the stream")
	// ErrMonthClosed: the month of the append is sealed; see [MonthError].
	ErrMonthClosed = errors.New("the month takes no more events")
	// ErrMonthMissing: the month of the append has no partition and none could be made; see [MonthError].
	ErrMonthMissing = errors.New("the month has no partition")

	// ErrUnknownType: a payload or a stored event of a type that the codec does not know.
	ErrUnknownType = errors.New("unknown event type")
	// ErrNewerSchema: a stored event of a later schema version than the codec knows: an older program reads the log.
	ErrNewerSchema = errors.New("event of a newer schema version")
	// ErrBadBody: stored bytes that do not fit the type; see [DecodeError].
	ErrBadBody = errors.New("event body does not fit its type")
	// ErrUpcast: an upcaster refused stored bytes; see [DecodeError].
	ErrUpcast = errors.New("upcasting the event")
	// ErrCipher: the Cipher refused to encode or decode a body, or the store has none for a body encoded with a key.
	ErrCipher = errors.New("the event's cipher")

	// ErrStreamNotFound: the stream has no events.
	ErrStreamNotFound = errors.New("the stream has no events")
	// ErrCorrupt: stored events contradict the head row; see [CorruptError].
	ErrCorrupt = errors.New("the log is corrupt")
	// ErrArchived: the events are in a month that was archived, and cannot be read from there; see [ArchivedError].
	ErrArchived = errors.New("the month is archived")
	// ErrBadCursor: a [Cursor] that this library did not make.
	ErrBadCursor = errors.New("malformed cursor")
	// ErrLogRewound: the log no longer holds what a cursor has seen: it was restored from an older copy, or lost commits.
	ErrLogRewound = errors.New("the log was rewound behind the cursor")
	// ErrNotAllowed: the store's role lacks a right that the operation needs; see [Store.Grant].
	ErrNotAllowed = errors.New("the role may not do this")
	// ErrNoPool: the operation needs connections of its own, and the store is bound to a transaction or has no pool.
	ErrNoPool = errors.New("the operation needs a store with a pool")

	// ErrSchemaMissing, ErrSchemaOlder and ErrSchemaNewer: what [Store.CheckSchema] found; see [SchemaError].
	ErrSchemaMissing = errors.New("the schema has no event log")
	ErrSchemaOlder   = errors.New("the schema is older than this program: run Migrate")
	ErrSchemaNewer   = errors.New("the schema is newer than this program: update the program")
	// ErrSequence: the sequence of positions was altered and can no longer order the log.
	ErrSequence = errors.New("the sequence of positions is unsafe")
	// ErrNotUTF8: the database's encoding would change what is stored.
	ErrNotUTF8 = migrate.ErrNotUTF8
)

// ConflictError says where the stream is instead. It matches [ErrConflict].
type ConflictError struct {
	StreamID StreamID
	Expected Expected
	Actual   Version // 0: the stream does not exist
}

func (e *ConflictError) Error() string {
	actual := fmt.Sprintf("at version %d", e.Actual)
	if e.Actual == 0 {
		actual = "without events"
	}
	return fmt.Sprintf("append to %s: expected %s, the stream is %s", e.StreamID, e.Expected, actual)
}

// Is matches [ErrConflict].
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// OutcomeUnknownError has what it takes to find out: the append repeated with these events' ids returns its receipt, whether
// the first one was written or not. It matches [ErrOutcomeUnknown].
type OutcomeUnknownError struct {
	StreamID StreamID
	EventIDs []uuid.UUID // of the events of this stream, in order: given or made
	// Others are the further streams of [Store.AppendMany], in the order of their ids.
	Others []OutcomeUnknownError
	Err    error
}

func outcomeUnknown(requests []*appendRequest, err error) error {
	if ctxErr := (*OutcomeUnknownError)(nil); errors.As(err, &ctxErr) {
		return err
	}
	unknown := &OutcomeUnknownError{StreamID: requests[0].stream, EventIDs: requests[0].eventIDs, Err: err}
	for _, r := range requests[1:] {
		unknown.Others = append(unknown.Others, OutcomeUnknownError{StreamID: r.stream, EventIDs: r.eventIDs, Err: err})
	}
	return unknown
}

func (e *OutcomeUnknownError) Error() string {
	if errors.Is(e.Err, ErrOutcomeUnknown) {
		return e.Err.Error()
	}
	return fmt.Sprintf("%v: %v", ErrOutcomeUnknown, e.Err)
}

// Is matches [ErrOutcomeUnknown].
func (e *OutcomeUnknownError) Is(target error) bool { return target == ErrOutcomeUnknown }

func (e *OutcomeUnknownError) Unwrap() error { return e.Err }

// InvalidError says which argument breaks which limit. It matches [ErrInvalid].
type InvalidError struct {
	Index  int    // of the event among those appended, from 0; -1 where it is not about one event
	Field  string // what is wrong: "data", "metadata", "occurred_at", "stream id" …
	Reason string
	Err    error // may be nil
}

func (e *InvalidError) Error() string {
	text := e.Field
	if e.Index >= 0 {
		text = fmt.Sprintf("event %d: %s", e.Index, e.Field)
	}
	if e.Reason != "" {
		text += " " + e.Reason
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Is matches [ErrInvalid].
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

func (e *InvalidError) Unwrap() error { return e.Err }

// ClockError says how far the stream's head is ahead. It matches [ErrClock].
type ClockError struct {
	StreamID StreamID
	Head     time.Time // recorded time of the stream's last event
}

func (e *ClockError) Error() string {
	return fmt.Sprintf("append to %s: its last event was recorded at %s, ahead of the database's clock", e.StreamID, e.Head.Format(time.RFC3339Nano))
}

// Is matches [ErrClock].
func (e *ClockError) Is(target error) bool { return target == ErrClock }

// MonthError names the month that an append fell into. It matches [ErrMonthClosed] or [ErrMonthMissing].
type MonthError struct {
	StreamID StreamID
	Month    time.Time // its first instant, UTC
	Kind     error     // ErrMonthClosed or ErrMonthMissing
	Err      error     // why a missing month could not be made; may be nil
}

func (e *MonthError) Error() string {
	text := fmt.Sprintf("append to %s in month %s: %v", e.StreamID, e.Month.Format("2006-01"), e.Kind)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Is matches [ErrMonthClosed] or [ErrMonthMissing].
func (e *MonthError) Is(target error) bool { return target == e.Kind }

func (e *MonthError) Unwrap() error { return e.Err }

// DecodeError says which stored event could not be decoded, and why. It matches [ErrUnknownType], [ErrNewerSchema],
// [ErrUpcast], [ErrBadBody] or [ErrCipher].
type DecodeError struct {
	StreamID      StreamID // empty where Codec.Decode was called directly
	Version       Version
	Position      Position
	Type          string
	SchemaVersion int
	Kind          error
	Err           error // may be nil
}

func (e *DecodeError) Error() string {
	text := fmt.Sprintf("%v: %s, schema version %d", e.Kind, e.Type, e.SchemaVersion)
	if e.StreamID != "" {
		text = fmt.Sprintf("%s version %d at position %d: %s", e.StreamID, e.Version, e.Position, text)
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Is matches the error's kind.
func (e *DecodeError) Is(target error) bool { return target == e.Kind }

func (e *DecodeError) Unwrap() error { return e.Err }

// CorruptError says what is missing. It matches [ErrCorrupt].
type CorruptError struct {
	StreamID StreamID
	Version  Version // the first version that is not where it must be
	Head     Version // the head row's
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("stream %s: its head is at version %d, but version %d cannot be found", e.StreamID, e.Head, e.Version)
}

// Is matches [ErrCorrupt].
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// RewoundError says what the cursor had seen. It matches [ErrLogRewound].
type RewoundError struct {
	Position Position
	EventID  uuid.UUID // zero where only the position was known
	Last     Position  // the last position the log has taken
}

func (e *RewoundError) Error() string {
	if e.Position > e.Last {
		return fmt.Sprintf("the log was rewound: a cursor stands at position %d, the log ends at %d", e.Position, e.Last)
	}
	return fmt.Sprintf("the log was rewound: position %d no longer holds event %s", e.Position, e.EventID)
}

// Is matches [ErrLogRewound].
func (e *RewoundError) Is(target error) bool { return target == ErrLogRewound }

// SchemaError carries both versions. It matches [ErrSchemaMissing], [ErrSchemaOlder] or [ErrSchemaNewer].
type SchemaError struct {
	Schema string
	Have   int // in the database, 0 where there is none
	Want   int // of this program
	Kind   error
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("schema %s is at version %d, this program needs %d: %v", e.Schema, e.Have, e.Want, e.Kind)
}

// Is matches the error's kind.
func (e *SchemaError) Is(target error) bool { return target == e.Kind }

// allowed names a missing right.
func allowed(err error) error {
	if pg.Code(err) == pg.InsufficientPrivilege {
		return fmt.Errorf("%w: %w", ErrNotAllowed, err)
	}
	return err
}

// Retryable says whether repeating the same call (in a caller's transaction: the whole transaction) may succeed without
// anything else changing. A conflict is not: read the stream again first. Nor is an unknown outcome: repeat that with the
// events' ids.
func Retryable(err error) bool {
	if errors.Is(err, ErrOutcomeUnknown) { // repeated without the events' ids, it might be written twice
		return false
	}
	var noConnection *pgconn.ConnectError
	if errors.Is(err, ErrSerialization) || pgconn.SafeToRetry(err) || errors.As(err, &noConnection) {
		return true
	}
	switch pg.Code(err) {
	case pg.SerializationFailure, pg.DeadlockDetected, pg.LockNotAvailable:
		return true
	}
	return false
}
