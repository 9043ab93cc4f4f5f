package importer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"github.com/google/uuid"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// RecordingConfig of [FromRecording]. The zero value works.
type RecordingConfig struct {
	// BatchEvents is the number of lines a transaction. Defaults to 5,000.
	BatchEvents int
	// Progress is called after each commit. Defaults to none.
	Progress func(eventstore.ImportReport)
}

// FromRecording imports the lines of a recording ([focusgroup.ReadRecording]): the bulk form of [focusgroup.Import]. Events are
// recorded now.
//
// It needs no bookmark: lines that the log has already, by stream, version and id, are counted as Existing. So a run that
// was interrupted is repeated, and a recording that has grown is continued. A line without an id gets one that is made
// of its stream and version. Each body must fit its type in the store's codec, if it has one.
//
// Errors about a line are [*focusgroup.RecordingError]s; they match those of [eventstore.Store.Import], such as
// [eventstore.ErrVersionDiffers] where the log has another event at the line's version. The report says how far it came.
func FromRecording(ctx context.Context, store *eventstore.Store, lines iter.Seq2[focusgroup.Line, error], config RecordingConfig) (eventstore.ImportReport, error) {
	source := func(string) iter.Seq2[eventstore.Imported, error] {
		return func(yield func(eventstore.Imported, error) bool) {
			for line, err := range lines {
				var event eventstore.Imported
				if err == nil {
					event, err = lineEvent(store.Codec(), line)
				}
				if !yield(event, err) || err != nil {
					return
				}
			}
		}
	}
	report, err := store.Import(ctx, source, eventstore.ImportConfig{BatchEvents: config.BatchEvents, Progress: config.Progress})
	if err != nil {
		err = fmt.Errorf("importing a recording: %w", lineFault(err))
	}
	return report, err
}

func lineEvent(codec *eventstore.Codec, line focusgroup.Line) (eventstore.Imported, error) {
	event := eventstore.Imported{
		StreamID: line.StreamID, Version: line.Version, Event: line.Event,
		Bookmark: strconv.Itoa(line.Number),
	}
	if event.Event.ID == uuid.Nil {
		event.Event.ID = uuid.NewSHA1(namespace, []byte(string(line.StreamID)+"\x00"+strconv.FormatInt(int64(line.Version), 10)))
	}
	err := checkBody(codec, &event.Event)
	if err != nil {
		err = &focusgroup.RecordingError{Line: line.Number, Field: fieldOf(err), Err: err}
	}
	return event, err
}

// fieldOf names the field of a line that a body's error is about.
func fieldOf(err error) string {
	var typeError *json.UnmarshalTypeError
	switch {
	case errors.As(err, &typeError) && typeError.Field != "":
		return "data." + typeError.Field
	case errors.Is(err, eventstore.ErrUnknownType):
		return "type"
	case errors.Is(err, eventstore.ErrNewerSchema):
		return "schema_version"
	}
	return "data"
}

// lineFault names the line in an error about an event.
func lineFault(err error) error {
	var wrong *eventstore.ImportError
	if !errors.As(err, &wrong) {
		return err
	}
	number, _ := strconv.Atoi(wrong.Bookmark) // its own
	field := ""
	var invalid *eventstore.InvalidError
	if errors.As(err, &invalid) {
		field = invalid.Field
	}
	return &focusgroup.RecordingError{Line: number, Field: field, Err: err}
}
