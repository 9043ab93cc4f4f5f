package focusgroup

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strconv"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
)

// RecordingFormat is the version of the recording format that [Export] writes.
const RecordingFormat = 1

// Export writes events as a recording and returns how many. Give it a stream ([eventstore.Store.Stream] from 0) or the
// log ([eventstore.Store.All]); bodies are written as they are stored, in their stored schema version.
func Export(w io.Writer, events iter.Seq2[eventstore.Recorded, error]) (int, error) {
	out := bufio.NewWriter(w)
	count := 0
	var line bytes.Buffer
	for event, err := range events {
		if err != nil {
			return count, err
		}
		line.Reset()
		if err := writeLine(&line, event); err != nil {
			return count, fmt.Errorf("recording %s version %d: %w", event.StreamID, event.Version, err)
		}
		if _, err := out.Write(line.Bytes()); err != nil {
			return count, err
		}
		count++
	}
	return count, out.Flush()
}

// writeLine writes the fields in a fixed order, so that the same events give the same bytes.
func writeLine(line *bytes.Buffer, e eventstore.Recorded) error {
	text := func(name, value string) error {
		line.WriteString(`,"` + name + `":`)
		encoder := json.NewEncoder(line)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(value); err != nil {
			return err
		}
		line.Truncate(line.Len() - 1) // Encode's newline
		return nil
	}
	line.WriteString(`{"recording":` + strconv.Itoa(RecordingFormat))
	if err := text("stream", string(e.StreamID)); err != nil {
		return err
	}
	line.WriteString(`,"version":` + strconv.FormatInt(int64(e.Version), 10) + `,"id":"` + e.ID.String() + `"`)
	if err := text("type", e.Type); err != nil {
		return err
	}
	line.WriteString(`,"schema_version":` + strconv.Itoa(e.SchemaVersion) +
		`,"occurred_at":"` + e.OccurredAt.UTC().Format(time.RFC3339Nano) + `","data":`)
	if err := json.Compact(line, e.JSON); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if len(e.MetadataJSON) > 0 && string(e.MetadataJSON) != "{}" {
		line.WriteString(`,"metadata":`)
		if err := json.Compact(line, e.MetadataJSON); err != nil {
			return fmt.Errorf("metadata: %w", err)
		}
	}
	line.WriteString("}\n")
	return nil
}
