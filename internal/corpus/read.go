package corpus

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"iter"

	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// Read yields the lines of a corpus file as events. It keeps a line and a few words about each stream that has not ended.
// A [*focusgroup.RecordingError] (or the reader's own) comes last and once.
func Read(r io.Reader) iter.Seq2[focusgroup.Line, error] {
	return func(yield func(focusgroup.Line, error) bool) {
		c := converter{open: map[string]discussion{}}
		for text, err := range focusgroup.Lines(r) {
			var line focusgroup.Line
			if err == nil {
				line, err = c.convert(text)
			}
			if !yield(line, err) || err != nil {
				return
			}
		}
	}
}

// ReadAny yields the lines of a corpus file or of a recording, whichever the first line shows it to be.
func ReadAny(r io.Reader) iter.Seq2[focusgroup.Line, error] {
	return func(yield func(focusgroup.Line, error) bool) {
		var seen bytes.Buffer // what looking at the first line took from r, compressed or not
		read, err := detect(io.TeeReader(r, &seen))
		if err != nil {
			yield(focusgroup.Line{}, err)
			return
		}
		for line, err := range read(io.MultiReader(&seen, r)) {
			if !yield(line, err) {
				return
			}
		}
	}
}

// detect chooses the function that reads what the first line belongs to.
func detect(r io.Reader) (func(io.Reader) iter.Seq2[focusgroup.Line, error], error) {
	for text, err := range focusgroup.Lines(r) {
		if err != nil {
			return nil, err
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(text.Text, &fields); err != nil {
			return nil, &focusgroup.RecordingError{Line: text.Number, Err: err}
		}
		if _, ok := fields["recording"]; ok {
			return focusgroup.ReadRecording, nil
		}
		if _, ok := fields["seq"]; ok {
			return Read, nil
		}
		return nil, &focusgroup.RecordingError{
			Line: text.Number, Err: errors.New(`has neither "recording", as a recording, nor "seq", as a corpus file`),
		}
	}
	return focusgroup.ReadRecording, nil // without lines, either reads nothing
}
