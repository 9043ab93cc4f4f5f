package eventstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sight-platform/hindsight/internal/pg"
)

// Append writes events to one stream: all of them in one commit and one round trip, or none. Each event is a payload
// that the codec knows (a value or a pointer), a [Raw], or an [Event] that holds one of them.
//
// Errors match [ErrConflict], [ErrInvalid], [ErrUnknownType], [ErrDuplicateID], [ErrClock], [ErrMonthClosed],
// [ErrMonthMissing], [ErrCipher], [ErrSerialization] (in a caller's transaction), or [ErrOutcomeUnknown] where the
// connection or ctx ended before the database answered. In all but the last case nothing was written.
func (s *Store) Append(ctx context.Context, id StreamID, expected Expected, events ...any) (Receipt, error) {
	request, err := s.prepareAppend(ctx, id, expected, events)
	if err != nil {
		return Receipt{}, fmt.Errorf("append to %s: %w", id, err)
	}
	// A missing month is made and the append repeated; a third try is for a month end passing in between.
	for range 3 {
		outcome, err := s.appendRepeatedly(ctx, request)
		if err != nil {
			return Receipt{}, fmt.Errorf("append to %s: %w", id, err)
		}
		switch outcome.name {
		case "appended":
			if !s.inTx() {
				s.news.poke()
			}
			return Receipt{
				StreamID: id, Version: outcome.version, Positions: outcome.positions, RecordedAt: outcome.recordedAt,
				EventIDs: request.eventIDs,
			}, nil
		case "conflict":
			return Receipt{}, &ConflictError{StreamID: id, Expected: expected, Actual: outcome.version}
		case "clock":
			return Receipt{}, &ClockError{StreamID: id, Head: outcome.recordedAt}
		case "month_closed":
			return Receipt{}, &MonthError{StreamID: id, Month: monthOf(outcome.recordedAt), Kind: ErrMonthClosed}
		case "month_missing":
			month := monthOf(outcome.recordedAt)
			if err := s.ensureMonth(ctx, month); pg.Code(err) == pg.SerializationFailure {
				return Receipt{}, fmt.Errorf("append to %s: %w: %w", id, ErrSerialization, err)
			} else if err != nil {
				return Receipt{}, &MonthError{StreamID: id, Month: month, Kind: ErrMonthMissing, Err: err}
			}
		default:
			return Receipt{}, fmt.Errorf("append to %s: the database answered %q", id, outcome.name)
		}
	}
	if s.inTx() { // the month is there, but not in the snapshot of a stricter isolation
		return Receipt{}, fmt.Errorf("append to %s: the month was made after the transaction's snapshot: %w", id, ErrSerialization)
	}
	return Receipt{}, &MonthError{StreamID: id, Month: monthOf(s.now()), Kind: ErrMonthMissing}
}

// appendRequest is an append in the columns that the SQL function takes.
type appendRequest struct {
	stream   StreamID
	expected Expected
	project  *string
	eventIDs []uuid.UUID

	ids            []string
	types          []string
	schemaVersions []int32
	occurred       []*time.Time
	data           []string
	metadata       []string
}

func (s *Store) prepareAppend(ctx context.Context, id StreamID, expected Expected, events []any) (*appendRequest, error) {
	if err := id.Validate(); err != nil {
		return nil, err
	}
	if expected < Any {
		return nil, &InvalidError{Index: -1, Field: "expected version", Reason: "is negative"}
	}
	if len(events) == 0 || len(events) > MaxEventsPerAppend {
		return nil, &InvalidError{Index: -1, Field: "events", Reason: fmt.Sprintf("are %d, 1 to %d are allowed", len(events), MaxEventsPerAppend)}
	}
	request := &appendRequest{stream: id, expected: expected}
	total := 0
	for i, item := range events {
		event, ok := item.(Event)
		if !ok {
			event = Event{Data: item}
		}
		size, err := s.prepareEvent(ctx, request, event)
		if err != nil {
			var invalid *InvalidError
			if errors.As(err, &invalid) {
				invalid.Index = i
				return nil, err
			}
			return nil, fmt.Errorf("event %d: %w", i, err)
		}
		if total += size; total > MaxAppendBytes {
			return nil, &InvalidError{Index: i, Field: "data", Reason: fmt.Sprintf("brings the append over %d bytes", MaxAppendBytes)}
		}
	}
	return request, nil
}

// prepareEvent adds an event to the request's columns and returns its size in bytes.
func (s *Store) prepareEvent(ctx context.Context, r *appendRequest, event Event) (int, error) {
	raw, err := s.encode(event.Data)
	if err != nil {
		return 0, err
	}
	if reason := checkType(raw.Type); reason != "" {
		return 0, &InvalidError{Field: "type", Reason: reason}
	}
	if raw.SchemaVersion < 1 || raw.SchemaVersion > math.MaxInt32 {
		return 0, &InvalidError{Field: "schema version", Reason: fmt.Sprintf("is %d, they start at 1 and end at %d", raw.SchemaVersion, math.MaxInt32)}
	}
	if reason := checkJSON(raw.JSON, MaxDataBytes); reason != "" {
		return 0, &InvalidError{Field: "data", Reason: reason}
	}
	_, given := event.Data.(Raw)
	if raw.JSON, err = s.protect(ctx, r.stream, raw, given, &event.Metadata); err != nil {
		return 0, err
	}
	metadata, err := encodeMetadata(event.Metadata)
	if err != nil {
		return 0, err
	}
	occurred, err := occurredColumn(event.OccurredAt)
	if err != nil {
		return 0, err
	}
	if err := r.setProject(event); err != nil {
		return 0, err
	}
	if event.ID == uuid.Nil {
		event.ID = newID()
	}
	r.eventIDs = append(r.eventIDs, event.ID)
	r.ids = append(r.ids, event.ID.String())
	r.types = append(r.types, raw.Type)
	r.schemaVersions = append(r.schemaVersions, int32(raw.SchemaVersion))
	r.occurred = append(r.occurred, occurred)
	r.data = append(r.data, string(raw.JSON))
	r.metadata = append(r.metadata, string(metadata))
	return len(raw.JSON) + len(metadata), nil
}

func (s *Store) encode(payload any) (Raw, error) {
	switch data := payload.(type) {
	case nil:
		return Raw{}, &InvalidError{Field: "data", Reason: "is nil"}
	case *Raw:
		return Raw{}, &InvalidError{Field: "data", Reason: "is a *Raw, want a Raw"}
	case Raw:
		if data.SchemaVersion == 0 {
			data.SchemaVersion = 1
		}
		return data, nil
	}
	raw, err := s.config.Codec.encode(payload)
	if err != nil && !errors.Is(err, ErrUnknownType) {
		return Raw{}, &InvalidError{Field: "data", Err: err}
	}
	return raw, err
}

// protect runs the Cipher's Encode, if there is one, and notes the key in the metadata. A Raw that was given with a key
// id is encoded already.
func (s *Store) protect(ctx context.Context, stream StreamID, raw Raw, given bool, metadata *Metadata) (json.RawMessage, error) {
	if metadata.KeyID != "" && !given {
		return nil, &InvalidError{Field: "metadata", Reason: "names a key id, but the body is not encoded with it"}
	}
	if s.config.Cipher.Encode == nil || metadata.KeyID != "" {
		return raw.JSON, nil
	}
	body, keyID, err := s.config.Cipher.Encode(ctx, CipherInfo{StreamID: stream, Type: raw.Type, Metadata: *metadata, JSON: raw.JSON})
	if err != nil {
		return nil, fmt.Errorf("%w: encoding: %w", ErrCipher, err)
	}
	if keyID == "" && !bytes.Equal(body, raw.JSON) { // no reader would know to decode it
		return nil, fmt.Errorf("%w: encoding: the body was changed without naming a key", ErrCipher)
	}
	if reason := checkJSON(body, MaxDataBytes); reason != "" {
		return nil, &InvalidError{Field: "data", Reason: "as encoded by the Cipher " + reason}
	}
	metadata.KeyID = keyID
	return body, nil
}

func encodeMetadata(m Metadata) ([]byte, error) {
	metadata, err := marshal(m)
	if err != nil {
		return nil, &InvalidError{Field: "metadata", Err: err}
	}
	if hasReplacementEscape(metadata) && holdsBadText(reflect.ValueOf(m)) {
		return nil, &InvalidError{Field: "metadata", Reason: "holds a text that is not valid UTF-8"}
	}
	if reason := checkJSON(metadata, MaxMetadataBytes); reason != "" {
		return nil, &InvalidError{Field: "metadata", Reason: reason}
	}
	return metadata, nil
}

func occurredColumn(t time.Time) (*time.Time, error) {
	if t.IsZero() {
		return nil, nil
	}
	t = cutTime(t)
	if reason := checkOccurredAt(t); reason != "" {
		return nil, &InvalidError{Field: "occurred_at", Reason: reason}
	}
	return &t, nil
}

// setProject keeps the first project that the append's events name.
func (r *appendRequest) setProject(event Event) error {
	project := event.Project
	if scoped, ok := event.Data.(ProjectScoped); ok && project == "" {
		project = scoped.StreamProject()
	}
	if reason := checkProject(project); reason != "" {
		return &InvalidError{Field: "project", Reason: reason}
	}
	if r.project == nil && project != "" {
		r.project = &project
	}
	return nil
}

// appendOutcome is the SQL function's answer.
type appendOutcome struct {
	name       string
	version    Version
	recordedAt time.Time
	positions  []Position
}

// maxRaces bounds the repetitions of an append that loses races. Each waits for the winner's lock, so it needs no pause.
const maxRaces = 50

// appendRepeatedly repeats an append of its own that lost a race: a deadlock, or a session whose default isolation is
// stricter. A caller's transaction is the caller's to repeat.
func (s *Store) appendRepeatedly(ctx context.Context, r *appendRequest) (o appendOutcome, err error) {
	for range maxRaces {
		o, err = s.append(ctx, r)
		if s.pool == nil || !errors.Is(err, ErrSerialization) {
			break
		}
	}
	return o, err
}

func (s *Store) append(ctx context.Context, r *appendRequest) (o appendOutcome, err error) {
	var now *time.Time
	if s.config.Clock != nil {
		t := cutTime(s.config.Clock())
		now = &t
	}
	var version *Version
	var recordedAt *time.Time
	var positions []int64
	db := s.db
	if s.pool != nil {
		conn, err := s.pool.Acquire(ctx) // apart, so that an error of waiting for it is known to have written nothing
		if err != nil {
			return o, err
		}
		defer conn.Release()
		db = conn
	}
	err = db.QueryRow(ctx, s.sql.append, string(r.stream), int64(r.expected), r.project,
		r.ids, r.types, r.schemaVersions, r.occurred, r.data, r.metadata, s.config.MaxClockSkew.Microseconds(), now).
		Scan(&o.name, &version, &recordedAt, &positions)
	if err != nil {
		return o, s.classifyAppend(err)
	}
	if version != nil {
		o.version = *version
	}
	if recordedAt != nil {
		o.recordedAt = recordedAt.UTC()
	}
	o.positions = make([]Position, len(positions))
	for i, p := range positions {
		o.positions[i] = Position(p)
	}
	return o, nil
}

func (s *Store) classifyAppend(err error) error {
	switch pg.Code(err) {
	case pg.SerializationFailure, pg.DeadlockDetected:
		return fmt.Errorf("%w: %w", ErrSerialization, err)
	case pg.UniqueViolation:
		if strings.HasSuffix(pg.Constraint(err), "_event_id_key") {
			return fmt.Errorf("%w: %w", ErrDuplicateID, err)
		}
	case pg.BelowFence:
		return fmt.Errorf("%w: %w", ErrSequence, err)
	case "":
		// No answer from PostgreSQL. Inside a transaction the caller's commit decides; otherwise the statement may have
		// committed unless not a byte of it was sent.
		if s.pool != nil && !pgconn.SafeToRetry(err) {
			return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
	}
	return err
}

// makerTimeout bounds the wait for a connection beside a caller's transaction: the pool may be used up by such ones.
const makerTimeout = time.Second

// ensureMonth makes a month's partition in a short transaction of its own. Where the store has only the caller's, or no
// connection can be had, it makes it there, under a savepoint.
func (s *Store) ensureMonth(ctx context.Context, month time.Time) error {
	if s.inTx() && s.makers != nil {
		beside, cancel := context.WithTimeout(ctx, makerTimeout)
		defer cancel()
		if s.makeMonth(beside, s.makers, month) == nil {
			return nil
		}
	}
	return s.makeMonth(ctx, s.db, month)
}

func (s *Store) makeMonth(ctx context.Context, db pg.DB, month time.Time) error {
	return pg.InTx(ctx, db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, s.sql.ensureMonth, month.Format(time.DateOnly)) // a text: a time would pass the session's zone
		return err
	})
}

func (s *Store) now() time.Time {
	if s.config.Clock != nil {
		return s.config.Clock()
	}
	return time.Now()
}
