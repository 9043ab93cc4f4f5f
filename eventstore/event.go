package eventstore

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// StreamID names a stream, by the field's convention category-id: "discussion-0190f5c2-…". The category is what stands
// before the first hyphen. At most [MaxStreamIDBytes] bytes of UTF-8 without control characters.
type StreamID string

// NewStreamID makes an id in a category, ending in a version 7 UUID. The category must not hold a hyphen.
func NewStreamID(category string) StreamID {
	return StreamID(category + "-" + newID().String())
}

// Category is the part before the first hyphen.
func (id StreamID) Category() string {
	category, _, _ := strings.Cut(string(id), "-")
	return category
}

// Validate says whether the id can name a stream; its error matches [ErrInvalid].
func (id StreamID) Validate() error {
	if reason := checkStreamID(string(id)); reason != "" {
		return &InvalidError{Index: -1, Field: "stream id", Reason: reason}
	}
	return nil
}

func checkStreamID(id string) string {
	category, rest, ok := strings.Cut(id, "-")
	switch {
	case id == "":
		return "is empty"
	case len(id) > MaxStreamIDBytes:
		return fmt.Sprintf("has %d bytes, at most %d are allowed", len(id), MaxStreamIDBytes)
	case !ok || category == "" || rest == "":
		return fmt.Sprintf("%q is not of the form category-id", id)
	}
	return checkText(id)
}

// checkText refuses what PostgreSQL's text or a person's terminal cannot take.
func checkText(s string) string {
	if !utf8.ValidString(s) {
		return "is not valid UTF-8"
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return fmt.Sprintf("holds the control character %q", r)
		}
	}
	return ""
}

// newID makes a version 7 UUID: its leading time keeps the unique index on ids append-mostly.
func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// Version is an event's place in its stream: 1, 2, 3 … without holes.
type Version int64

// Position is an event's place in the global order: it grows along the log, with holes where appends were rolled back.
// Positions are comparable within one log only.
type Position int64

// Expected says what an append expects of its stream. Its zero value is [NoStream].
type Expected int64

const (
	// NoStream expects that the stream has no event yet.
	NoStream Expected = 0
	// StreamExists expects any event in the stream.
	StreamExists Expected = -1
	// Any expects nothing.
	Any Expected = -2
)

// AtVersion expects that the stream's last event has exactly this version; AtVersion(0) is [NoStream].
func AtVersion(version Version) Expected {
	if version < 0 {
		return Expected(-1 << 62) // refused by Append: a negative version must not turn into Any
	}
	return Expected(version)
}

func (e Expected) String() string {
	switch {
	case e == NoStream:
		return "no stream"
	case e == StreamExists:
		return "stream exists"
	case e == Any:
		return "any"
	case e > 0:
		return fmt.Sprintf("version %d", int64(e))
	}
	return fmt.Sprintf("invalid expectation (%d)", int64(e))
}

// Event is an event to append, where its payload alone says too little. Append takes payloads and Events alike.
type Event struct {
	// ID identifies the event: an append repeated with the same ids is not written twice. Defaults to a new version 7 UUID.
	ID uuid.UUID
	// Data is the payload: a value (or a pointer to one) of a type that the store's codec knows, or a [Raw].
	Data any
	// OccurredAt is when it happened, cut to microseconds. Defaults to the time the database records it.
	OccurredAt time.Time
	// Metadata is what is known about the event besides its payload.
	Metadata Metadata
	// Project is the project of the stream. It counts in the append that begins the stream, where the first event to name
	// one decides, and never changes afterwards. Defaults to what the payload's StreamProject method says, if it has one.
	Project string
}

// ProjectScoped is a payload that knows the project its stream belongs to.
type ProjectScoped interface {
	StreamProject() string
}

// Raw is a payload that is JSON already. Its bytes are stored as they are.
type Raw struct {
	Type          string
	SchemaVersion int // Defaults to 1.
	JSON          json.RawMessage
}

// Recorded is an event of the log.
type Recorded struct {
	Position      Position
	StreamID      StreamID
	Version       Version
	ID            uuid.UUID
	Type          string
	SchemaVersion int       // of the stored bytes
	OccurredAt    time.Time // UTC, microseconds
	RecordedAt    time.Time // UTC, microseconds
	Metadata      Metadata
	// Data is the decoded payload, of the newest schema version, as a value. A store without a codec leaves a [Raw].
	Data any
	// JSON holds the stored bytes of the body, MetadataJSON those of the metadata. They are never rewritten.
	JSON         json.RawMessage
	MetadataJSON json.RawMessage
}

// Metadata goes beside a payload. The zero value is stored as {}.
type Metadata struct {
	// CorrelationID is shared by everything that one request or discussion caused.
	CorrelationID string
	// CausationID is the id of the event or command that caused this one.
	CausationID string
	// Actor is who did it: a user, a service, a persona.
	Actor string
	// KeyID names the key a body was encoded with. [Cipher] sets it; a [Raw] may bring it, with a body that is encoded
	// already.
	KeyID string
	// Extra holds further values by name; the names above (in snake_case) are reserved.
	Extra map[string]json.RawMessage
}

const (
	keyCorrelation = "correlation_id"
	keyCausation   = "causation_id"
	keyActor       = "actor"
	keyKeyID       = "key_id"
)

// MarshalJSON writes one object: the set fields in a fixed order, then Extra by name.
func (m Metadata) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	field := func(name string, value any) error {
		if len(out) > 1 {
			out = append(out, ',')
		}
		key, err := marshal(name)
		if err != nil {
			return err
		}
		body, err := marshal(value)
		if err != nil {
			return fmt.Errorf("metadata %s: %w", name, err)
		}
		out = append(append(append(out, key...), ':'), body...)
		return nil
	}
	for _, known := range [...]struct{ name, value string }{
		{keyCorrelation, m.CorrelationID}, {keyCausation, m.CausationID}, {keyActor, m.Actor}, {keyKeyID, m.KeyID},
	} {
		if known.value != "" {
			if err := field(known.name, known.value); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range sortedKeys(m.Extra) {
		switch name {
		case keyCorrelation, keyCausation, keyActor, keyKeyID:
			return nil, fmt.Errorf("metadata %s: the name is reserved for the field", name)
		}
		if err := field(name, m.Extra[name]); err != nil {
			return nil, err
		}
	}
	return append(out, '}'), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *Metadata) UnmarshalJSON(data []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	*m = Metadata{}
	for name, target := range map[string]*string{
		keyCorrelation: &m.CorrelationID, keyCausation: &m.CausationID, keyActor: &m.Actor, keyKeyID: &m.KeyID,
	} {
		if value, ok := all[name]; ok {
			if err := json.Unmarshal(value, target); err != nil {
				return fmt.Errorf("metadata %s: %w", name, err)
			}
			delete(all, name)
		}
	}
	if len(all) > 0 {
		m.Extra = all
	}
	return nil
}

// Receipt is what an append returns.
type Receipt struct {
	StreamID   StreamID
	Version    Version     // of the last event: what the next append expects
	Positions  []Position  // of each event, growing
	EventIDs   []uuid.UUID // of each event
	RecordedAt time.Time   // of all of them
	Repeated   bool        // the events were in the log already: this is the receipt of the append that wrote them
}

// Position is that of the last event: what a reader waits for to see the whole append.
func (r Receipt) Position() Position { return r.Positions[len(r.Positions)-1] }
