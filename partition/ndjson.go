package partition

import (
	"bytes"
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

// appendLine writes an event; encoding/json takes five times as long.
func appendLine(b []byte, e *row) []byte {
	b = strconv.AppendInt(append(b, `{"position":`...), e.Position, 10)
	b = append(b, `,"recorded_at":"`...)
	recorded := len(b)
	b = appendTime(b, e.RecordedAt)
	recordedAt := b[recorded:]
	b = appendString(append(b, `","stream_id":`...), e.StreamID)
	b = strconv.AppendInt(append(b, `,"version":`...), e.Version, 10)
	b = append(append(b, `,"event_id":"`...), e.EventID.String()...)
	b = appendString(append(b, `","event_type":`...), e.EventType)
	b = strconv.AppendInt(append(b, `,"schema_version":`...), int64(e.SchemaVersion), 10)
	b = append(b, `,"occurred_at":"`...)
	if e.OccurredAt == e.RecordedAt { // as it is where nobody says otherwise
		b = append(b, recordedAt...)
	} else {
		b = appendTime(b, e.OccurredAt)
	}
	b = appendString(append(b, `","event_data":`...), e.EventData)
	b = appendString(append(b, `,"metadata":`...), e.Metadata)
	return append(b, "}\n"...)
}

func appendTime(b []byte, microseconds int64) []byte {
	return time.UnixMicro(microseconds).UTC().AppendFormat(b, time.RFC3339Nano)
}

// escaped are the bytes that a JSON string cannot hold as they are.
var escaped = func() (table [256]bool) { //nolint:gochecknoglobals // a constant that Go cannot write
	for c := range ' ' {
		table[c] = true
	}
	table['"'], table['\\'] = true, true
	return table
}()

// appendString writes a JSON string of valid UTF-8, which PostgreSQL's text is.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := range len(s) {
		if !escaped[s[i]] {
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

// parseLine reads what appendLine has written; encoding/json, which takes five times as long, what has another form.
func parseLine(data []byte, e *eventstore.Recorded) error {
	r := lineReader{rest: data}
	position := r.number(`{"position":`)
	recorded := r.time(`,"recorded_at":`)
	stream := r.text(`,"stream_id":`)
	version := r.number(`,"version":`)
	id, idErr := uuid.ParseBytes(r.text(`,"event_id":`))
	kind := r.text(`,"event_type":`)
	schema := r.number(`,"schema_version":`)
	occurred := r.time(`,"occurred_at":`)
	body, metadata := r.text(`,"event_data":`), r.text(`,"metadata":`)
	if r.other || idErr != nil || string(r.rest) != "}" {
		return parseOther(data, e)
	}
	*e = eventstore.Recorded{
		Position: eventstore.Position(position), RecordedAt: recorded, StreamID: eventstore.StreamID(stream), Version: eventstore.Version(version),
		ID: id, Type: string(kind), SchemaVersion: int(schema), OccurredAt: occurred, JSON: body, MetadataJSON: metadata,
	}
	return nil
}

func parseOther(data []byte, e *eventstore.Recorded) error {
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

// lineReader takes fields off a line, in appendLine's order.
type lineReader struct {
	rest  []byte
	other bool // the line has another form
}

func (r *lineReader) after(key string) bool {
	var ok bool
	if r.rest, ok = bytes.CutPrefix(r.rest, []byte(key)); !ok {
		r.other = true
	}
	return ok
}

func (r *lineReader) number(key string) (n int64) {
	if !r.after(key) {
		return 0
	}
	digits := 0
	for digits < len(r.rest) && digits < 18 && r.rest[digits]-'0' <= 9 {
		n = 10*n + int64(r.rest[digits]-'0')
		digits++
	}
	r.other = r.other || digits == 0 || digits > 1 && r.rest[0] == '0'
	r.rest = r.rest[digits:]
	return n
}

func (r *lineReader) time(key string) (t time.Time) {
	if err := t.UnmarshalText(r.text(key)); err != nil {
		r.other = true
	}
	return t.UTC()
}

// text returns a string's bytes, which are its caller's.
func (r *lineReader) text(key string) []byte {
	if !r.after(key + `"`) {
		return nil
	}
	end, escapes := 0, 0
	for ; end < len(r.rest) && r.rest[end] != '"'; end++ {
		if r.rest[end] == '\\' {
			escapes++
			end++
		}
	}
	if end >= len(r.rest) {
		r.other = true
		return nil
	}
	text := make([]byte, 0, end-escapes)
	from := r.rest[:end]
	r.rest = r.rest[end+1:]
	for ; escapes > 0; escapes-- {
		n := bytes.IndexByte(from, '\\')
		text = append(text, from[:n]...)
		switch c := from[n+1]; c {
		case '"', '\\':
			text = append(text, c)
		case 'n':
			text = append(text, '\n')
		default:
			r.other = true
			return nil
		}
		from = from[n+2:]
	}
	return append(text, from...)
}
