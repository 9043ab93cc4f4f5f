package eventstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// appendRequest is an append to one stream, checked and encoded.
type appendRequest struct {
	stream   StreamID
	expected Expected
	project  *string
	eventIDs []uuid.UUID
	since    time.Time // not after the first of the ids was made
	bytes    int
	events   encodedEvents
}

// encodedEvents are events as the SQL functions take them.
type encodedEvents struct {
	ids            []pgtype.UUID
	types          []string
	schemaVersions []int32
	occurred       []*time.Time
	data           []string
	metadata       []string
}

func newEncodedEvents(n int) encodedEvents {
	return encodedEvents{
		ids: make([]pgtype.UUID, 0, n), types: make([]string, 0, n), schemaVersions: make([]int32, 0, n),
		occurred: make([]*time.Time, 0, n), data: make([]string, 0, n), metadata: make([]string, 0, n),
	}
}

func (c *encodedEvents) add(more encodedEvents) {
	c.ids = append(c.ids, more.ids...)
	c.types = append(c.types, more.types...)
	c.schemaVersions = append(c.schemaVersions, more.schemaVersions...)
	c.occurred = append(c.occurred, more.occurred...)
	c.data = append(c.data, more.data...)
	c.metadata = append(c.metadata, more.metadata...)
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
	request := &appendRequest{
		stream: id, expected: expected, since: latest,
		eventIDs: make([]uuid.UUID, 0, len(events)), events: newEncodedEvents(len(events)),
	}
	for i, item := range events {
		event, ok := item.(Event)
		if !ok {
			event = Event{Data: item}
		}
		if err := s.prepareEvent(ctx, request, event); err != nil {
			var invalid *InvalidError
			if errors.As(err, &invalid) {
				invalid.Index = i
				return nil, err
			}
			return nil, fmt.Errorf("event %d: %w", i, err)
		}
		if request.bytes > MaxAppendBytes {
			return nil, &InvalidError{Index: i, Field: "data", Reason: fmt.Sprintf("brings the append over %d bytes", MaxAppendBytes)}
		}
	}
	return request, nil
}

// prepareEvent adds an event to the request.
func (s *Store) prepareEvent(ctx context.Context, r *appendRequest, event Event) error {
	raw, err := s.encode(event.Data)
	if err != nil {
		return err
	}
	if reason := checkType(raw.Type); reason != "" {
		return &InvalidError{Field: "type", Reason: reason}
	}
	if raw.SchemaVersion < 1 || raw.SchemaVersion > math.MaxInt32 {
		return &InvalidError{Field: "schema version", Reason: fmt.Sprintf("is %d, they start at 1 and end at %d", raw.SchemaVersion, math.MaxInt32)}
	}
	_, given := event.Data.(Raw)
	check := checkEncoded
	if given {
		check = checkJSON
	}
	if reason := check(raw.JSON, MaxDataBytes); reason != "" {
		return &InvalidError{Field: "data", Reason: reason}
	}
	if raw.JSON, err = s.protect(ctx, r.stream, raw, given, &event.Metadata); err != nil {
		return err
	}
	metadata, err := encodeMetadata(event.Metadata)
	if err != nil {
		return err
	}
	occurred, err := occurredColumn(event.OccurredAt)
	if err != nil {
		return err
	}
	if err := r.setProject(event); err != nil {
		return err
	}
	if event.ID == uuid.Nil {
		event.ID = newID()
	}
	if since := madeSince(event.ID); since.Before(r.since) {
		r.since = since
	}
	r.eventIDs = append(r.eventIDs, event.ID)
	r.bytes += len(raw.JSON) + len(metadata)
	columns := &r.events
	columns.ids = append(columns.ids, pgtype.UUID{Bytes: event.ID, Valid: true})
	columns.types = append(columns.types, raw.Type)
	columns.schemaVersions = append(columns.schemaVersions, int32(raw.SchemaVersion))
	columns.occurred = append(columns.occurred, occurred)
	columns.data = append(columns.data, string(raw.JSON))
	columns.metadata = append(columns.metadata, string(metadata))
	return nil
}

// madeSince is a time before which an id was not made: a day before the time in a version 7 UUID, for clocks differ. Other ids,
// and those of a clock that is a day ahead, may be of any age.
func madeSince(id uuid.UUID) time.Time {
	const doubt = 24 * time.Hour
	made := madeAt(id)
	if id.Version() != 7 || made.After(time.Now().Add(doubt)) {
		return earliest
	}
	return made.Add(-doubt)
}

// madeAt is the time in a version 7 UUID.
func madeAt(id uuid.UUID) time.Time {
	var ms [8]byte
	copy(ms[2:], id[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:]))).UTC()
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
	if m.CorrelationID == "" && m.CausationID == "" && m.Actor == "" && m.KeyID == "" && len(m.Extra) == 0 {
		return []byte("{}"), nil
	}
	metadata, err := marshal(m)
	if err != nil {
		return nil, &InvalidError{Field: "metadata", Err: err}
	}
	if hasReplacementEscape(metadata) && holdsBadText(reflect.ValueOf(m)) {
		return nil, &InvalidError{Field: "metadata", Reason: "holds a text that is not valid UTF-8"}
	}
	if reason := checkEncoded(metadata, MaxMetadataBytes); reason != "" {
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
