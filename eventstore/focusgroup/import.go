package focusgroup

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
)

// MaxLineBytes bounds a line of a recording: the largest body and metadata, with room for the rest.
const MaxLineBytes = eventstore.MaxDataBytes + eventstore.MaxMetadataBytes + 64<<10

// Line is one event of a recording.
type Line struct {
	Number   int // from 1
	StreamID eventstore.StreamID
	Version  eventstore.Version
	Event    eventstore.Event // its Data is an [eventstore.Raw]
}

// RecordingError says where a recording is wrong.
type RecordingError struct {
	Line  int    // from 1
	Field string // "occurred_at", "data.duration_seconds" …; empty where the whole line is meant
	Err   error
}

func (e *RecordingError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("recording line %d: %v", e.Line, e.Err)
	}
	return fmt.Sprintf("recording line %d: field %s: %v", e.Line, e.Field, e.Err)
}

func (e *RecordingError) Unwrap() error { return e.Err }

// ReadRecording yields the lines of a recording, gzipped or not. A [*RecordingError] (or the reader's own) comes last
// and once. Bodies are checked to be JSON, not to fit their type; [Import] does that. Blank lines are passed over.
func ReadRecording(r io.Reader) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		for text, err := range Lines(r) {
			var line Line
			if err == nil {
				line, err = parseLine(text)
			}
			if !yield(line, err) || err != nil {
				return
			}
		}
	}
}

// TextLine is a line of a text, without its end.
type TextLine struct {
	Number int // from 1
	Text   []byte
}

// Lines yields the lines of an NDJSON text, gzipped or not, that are not blank; none longer than [MaxLineBytes]. The
// bytes are valid until the next line.
func Lines(r io.Reader) iter.Seq2[TextLine, error] {
	return func(yield func(TextLine, error) bool) {
		buffered := bufio.NewReader(r)
		var input io.Reader = buffered
		if magic, _ := buffered.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
			zipped, err := gzip.NewReader(buffered)
			if err != nil {
				yield(TextLine{}, fmt.Errorf("reading the recording: %w", err))
				return
			}
			input = zipped
		}
		scanner := bufio.NewScanner(input)
		scanner.Buffer(make([]byte, 0, 64<<10), MaxLineBytes)
		number := 1
		for ; scanner.Scan(); number++ {
			if len(bytes.TrimSpace(scanner.Bytes())) > 0 && !yield(TextLine{Number: number, Text: scanner.Bytes()}, nil) {
				return
			}
		}
		switch err := scanner.Err(); {
		case errors.Is(err, bufio.ErrTooLong):
			yield(TextLine{}, &RecordingError{Line: number, Err: fmt.Errorf("has more than %d bytes", MaxLineBytes)})
		case err != nil:
			yield(TextLine{}, fmt.Errorf("reading the recording after line %d: %w", number-1, err))
		}
	}
}

// parseLine reads the fields one by one, so that an error names its field.
func parseLine(text TextLine) (Line, error) {
	line := Line{Number: text.Number}
	fail := func(field string, err error) (Line, error) {
		return Line{}, &RecordingError{Line: text.Number, Field: field, Err: err}
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text.Text, &fields); err != nil {
		return fail("", err)
	}
	var format int
	var data json.RawMessage
	raw := eventstore.Raw{SchemaVersion: 1}
	for _, f := range []struct {
		name     string
		target   any
		required bool
	}{
		{"recording", &format, true},
		{"stream", &line.StreamID, true},
		{"version", &line.Version, true},
		{"id", &line.Event.ID, false},
		{"type", &raw.Type, true},
		{"schema_version", &raw.SchemaVersion, false},
		{"occurred_at", &line.Event.OccurredAt, true},
		{"data", &data, true},
		{"metadata", &line.Event.Metadata, false},
	} {
		value, ok := fields[f.name]
		delete(fields, f.name)
		switch {
		case !ok && f.required:
			return fail(f.name, errors.New("is missing"))
		case !ok:
			continue
		case string(value) == "null":
			return fail(f.name, errors.New("is null"))
		}
		if err := json.Unmarshal(value, f.target); err != nil {
			return fail(f.name, err)
		}
	}
	for name := range fields {
		return fail(name, errors.New("is not a field of a recording"))
	}
	switch {
	case format != RecordingFormat:
		return fail("recording", fmt.Errorf("is format %d, this program reads %d", format, RecordingFormat))
	case line.Version < 1:
		return fail("version", fmt.Errorf("is %d, they start at 1", line.Version))
	case raw.SchemaVersion < 1:
		return fail("schema_version", fmt.Errorf("is %d, they start at 1", raw.SchemaVersion))
	}
	if err := line.StreamID.Validate(); err != nil {
		return fail("stream", err)
	}
	raw.JSON = data
	line.Event.Data = raw
	return line, nil
}

// Imported is what an import did.
type Imported struct {
	Events   int
	Repeated int // of them, were in the log already, with the same ids
	Streams  int // begun, continued or repeated
	Position eventstore.Position
	// First and Last bound occurred_at; zero without events.
	First, Last time.Time
}

// importBatch bounds an append: large enough to be fast, small enough that other readers of the log are not held back.
const importBatch = 500

// Import appends the lines of a recording, each stream at the versions that the recording says: a stream that has other
// events there is an [eventstore.ErrConflict]. A recording that was imported before, or in part, is passed over as far as the
// ids of its events are in the log (a line without an id is always new). Consecutive lines of a stream go in one append, in the order of the recording;
// what was appended before an error stays (import inside a transaction to get all or nothing). Each body must fit its
// type in the store's codec. Errors about a line are [*RecordingError]s.
func Import(ctx context.Context, store *eventstore.Store, lines iter.Seq2[Line, error]) (Imported, error) {
	run := importRun{store: store, streams: map[eventstore.StreamID]bool{}}
	for line, err := range lines {
		if err == nil {
			err = run.check(&line)
		}
		if err == nil && !run.continues(line) {
			err = run.flush(ctx)
		}
		if err != nil {
			return run.done, err
		}
		run.batch = append(run.batch, line)
		run.bytes += size(line)
	}
	err := run.flush(ctx)
	return run.done, err
}

type importRun struct {
	store   *eventstore.Store
	batch   []Line // of one stream, dense
	bytes   int
	streams map[eventstore.StreamID]bool
	done    Imported
}

// size is about what the line counts for in an append.
func size(line Line) int {
	raw, _ := line.Event.Data.(eventstore.Raw)
	m := line.Event.Metadata
	bytes := len(raw.JSON) + len(m.CorrelationID) + len(m.CausationID) + len(m.Actor) + len(m.KeyID) + 100
	for name, value := range m.Extra {
		bytes += len(name) + len(value) + 4
	}
	return bytes
}

// continues says whether the line belongs in the batch that is being filled.
func (r *importRun) continues(line Line) bool {
	if len(r.batch) == 0 {
		return true
	}
	last := r.batch[len(r.batch)-1]
	return line.StreamID == last.StreamID && line.Version == last.Version+1 &&
		len(r.batch) < importBatch && r.bytes+size(line) < eventstore.MaxAppendBytes/2
}

// check decodes the body, as a reader of the log will, and learns the project from it.
func (r *importRun) check(line *Line) error {
	raw, ok := line.Event.Data.(eventstore.Raw)
	codec := r.store.Codec()
	if !ok || codec == nil || line.Event.Metadata.KeyID != "" { // an encoded body is not for us to read
		return nil
	}
	payload, err := codec.Decode(raw)
	if err != nil {
		field := "data"
		var typeError *json.UnmarshalTypeError
		switch {
		case errors.As(err, &typeError) && typeError.Field != "":
			field += "." + typeError.Field
		case errors.Is(err, eventstore.ErrUnknownType):
			field = "type"
		case errors.Is(err, eventstore.ErrNewerSchema):
			field = "schema_version"
		}
		return &RecordingError{Line: line.Number, Field: field, Err: err}
	}
	if scoped, ok := payload.(eventstore.ProjectScoped); ok && line.Event.Project == "" {
		line.Event.Project = scoped.StreamProject()
	}
	return nil
}

func (r *importRun) flush(ctx context.Context) error {
	if len(r.batch) == 0 {
		return nil
	}
	first := r.batch[0]
	events := make([]any, len(r.batch))
	for i, line := range r.batch {
		events[i] = line.Event
	}
	receipt, err := r.store.Append(ctx, first.StreamID, eventstore.AtVersion(first.Version-1), events...)
	if err != nil {
		wrong := &RecordingError{Line: first.Number, Err: err}
		var invalid *eventstore.InvalidError
		if errors.As(err, &invalid) && invalid.Index >= 0 {
			wrong.Line, wrong.Field = r.batch[invalid.Index].Number, invalid.Field
		}
		return wrong
	}
	for _, line := range r.batch {
		at := line.Event.OccurredAt
		if r.done.First.IsZero() || at.Before(r.done.First) {
			r.done.First = at
		}
		if at.After(r.done.Last) {
			r.done.Last = at
		}
	}
	r.streams[first.StreamID] = true
	r.done.Events += len(r.batch)
	if receipt.Repeated {
		r.done.Repeated += len(r.batch)
	}
	r.done.Streams = len(r.streams)
	r.done.Position = receipt.Position()
	r.batch, r.bytes = r.batch[:0], 0
	return nil
}
