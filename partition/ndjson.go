package partition

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/sight-platform/hindsight/eventstore"
)

// line is an event in NDJSON. Body and metadata are JSON strings, which keep their bytes; a nested object would not have to.
type line struct {
	Position      int64     `json:"position"`
	RecordedAt    time.Time `json:"recorded_at"`
	StreamID      string    `json:"stream_id"`
	Version       int64     `json:"version"`
	EventID       uuid.UUID `json:"event_id"`
	Type          string    `json:"event_type"`
	SchemaVersion int       `json:"schema_version"`
	OccurredAt    time.Time `json:"occurred_at"`
	Data          string    `json:"event_data"`
	Metadata      string    `json:"metadata"`
}

const microseconds = "2006-01-02T15:04:05.000000Z"

// appendLine writes an event; encoding/json takes five times as long.
func appendLine(b []byte, e *eventstore.Recorded) []byte {
	b = strconv.AppendInt(append(b, `{"position":`...), int64(e.Position), 10)
	b = e.RecordedAt.UTC().AppendFormat(append(b, `,"recorded_at":"`...), microseconds)
	b = appendString(append(b, `","stream_id":`...), string(e.StreamID))
	b = strconv.AppendInt(append(b, `,"version":`...), int64(e.Version), 10)
	b = append(append(b, `,"event_id":"`...), e.ID.String()...)
	b = appendString(append(b, `","event_type":`...), e.Type)
	b = strconv.AppendInt(append(b, `,"schema_version":`...), int64(e.SchemaVersion), 10)
	b = e.OccurredAt.UTC().AppendFormat(append(b, `,"occurred_at":"`...), microseconds)
	b = appendString(append(b, `","event_data":`...), string(e.JSON))
	b = appendString(append(b, `,"metadata":`...), string(e.MetadataJSON))
	return append(b, "}\n"...)
}

// appendString writes a JSON string of valid UTF-8, which PostgreSQL's text is.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := range len(s) {
		if c := s[i]; c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c := s[i]; c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(b, s[from:]...), '"')
}

func parseLine(data []byte, e *eventstore.Recorded) error {
	var l line
	if err := json.Unmarshal(data, &l); err != nil {
		return err
	}
	*e = eventstore.Recorded{
		Position: eventstore.Position(l.Position), RecordedAt: l.RecordedAt.UTC(), StreamID: eventstore.StreamID(l.StreamID),
		Version: eventstore.Version(l.Version), ID: l.EventID, Type: l.Type, SchemaVersion: l.SchemaVersion,
		OccurredAt: l.OccurredAt.UTC(), JSON: json.RawMessage(l.Data), MetadataJSON: json.RawMessage(l.Metadata),
	}
	return nil
}
