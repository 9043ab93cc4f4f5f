package corpus

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// record is a line of a corpus file. What is null or absent there has its zero value here.
type record struct {
	number      int
	stream      string
	seq         eventstore.Version
	kind        string
	occurredAt  time.Time
	speakerID   string
	speakerName string
	speakerRole string
	question    string
	text        *string
	duration    float64
	timeSource  json.RawMessage
	meta        map[string]json.RawMessage
}

// parse reads the fields one by one, so that an error names its field.
func parse(text focusgroup.TextLine) (*record, error) {
	r := &record{number: text.Number}
	if !utf8.Valid(text.Text) { // encoding/json would replace what is wrong
		return nil, r.wrong("", errors.New("is not valid UTF-8"))
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text.Text, &fields); err != nil {
		return nil, r.wrong("", err)
	}
	var persona json.RawMessage
	for _, f := range []struct {
		name     string
		target   any
		required bool
	}{
		{"stream", &r.stream, true},
		{"seq", &r.seq, true},
		{"type", &r.kind, true},
		{"occurred_at", &r.occurredAt, true},
		{"time_source", &r.timeSource, false},
		{"speaker_id", &r.speakerID, false},
		{"speaker_name", &r.speakerName, false},
		{"speaker_role", &r.speakerRole, false},
		{"persona", &persona, false},
		{"question", &r.question, false},
		{"text", &r.text, false},
		{"duration_seconds", &r.duration, false},
		{"meta", &r.meta, false},
	} {
		value := fields[f.name]
		delete(fields, f.name)
		if err := r.decode(f.name, value, f.target, f.required); err != nil {
			return nil, err
		}
	}
	for name := range fields {
		return nil, r.wrong(name, errors.New("is not a field of a corpus file"))
	}
	return r, nil
}

// decode reads a value that may be null or absent unless it is required.
func (r *record) decode(field string, value json.RawMessage, target any, required bool) error {
	if len(value) == 0 || string(value) == "null" {
		if required {
			return r.wrong(field, errors.New("is missing"))
		}
		return nil
	}
	err := json.Unmarshal(value, target)
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) && wrongType.Field != "" {
		field += "." + wrongType.Field
	}
	if err != nil {
		return r.wrong(field, err)
	}
	return nil
}

// takeMeta decodes a value of meta that goes into the payload, and so not into the metadata.
func (r *record) takeMeta(name string, target any, required bool) error {
	value := r.meta[name]
	delete(r.meta, name)
	return r.decode("meta."+name, value, target, required)
}

// extra is what remains of meta, for the metadata.
func (r *record) extra() map[string]json.RawMessage {
	extra := map[string]json.RawMessage{}
	for name, value := range r.meta {
		if string(value) != "null" {
			extra[name] = value
		}
	}
	if r.timeSource != nil {
		extra["time_source"] = r.timeSource
	}
	return extra
}

func (r *record) wrong(field string, err error) error {
	return &focusgroup.RecordingError{Line: r.number, Field: field, Err: err}
}

func (r *record) wrongf(field, format string, args ...any) error {
	return r.wrong(field, fmt.Errorf(format, args...))
}
