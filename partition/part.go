package partition

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	parquetzstd "github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/sight-platform/hindsight/eventstore"
)

const (
	// A part is what is held in memory at once, and what a reader of the archive fetches.
	partBytes = 64 << 20 // of NDJSON, before compression
	// A frame can be read by itself.
	frameBytes = 1 << 20
	// A row group of Parquet.
	groupRows = 20_000
)

// partRows is how many events go into a part and a frame of it at most.
type partRows struct {
	part  int64
	frame int
}

var defaultRows = partRows{part: 100_000, frame: 1000} //nolint:gochecknoglobals // a constant that Go cannot write

// index says where in a part the events are. It also describes the part's objects, so that an export that was killed finds out
// what it has done.
type index struct {
	Part   Part                           `json:"part"` // without Index
	Frames []frame                        `json:"frames"`
	Of     map[eventstore.StreamID][]seen `json:"streams"` // the frames that hold each stream, ascending
}

// seen is a frame that holds a stream, and the first of the stream's versions in it.
type seen [2]int64

func (s seen) frame() int { return int(s[0]) }

func (s seen) first() eventstore.Version { return eventstore.Version(s[1]) }

// frame is a zstd frame of some lines.
type frame struct {
	Offset int64               `json:"offset"`
	Bytes  int64               `json:"bytes"`
	First  eventstore.Position `json:"first"`
	Last   eventstore.Position `json:"last"`
}

// parquetRow has Parquet's own types, for tools that know nothing of us. Body and metadata are JSON in text.
type parquetRow struct {
	Position      int64     `parquet:"position,delta"`
	RecordedAt    int64     `parquet:"recorded_at,timestamp(microsecond),delta"`
	StreamID      string    `parquet:"stream_id,dict"`
	Version       int64     `parquet:"version,delta"`
	EventID       uuid.UUID `parquet:"event_id,uuid"`
	EventType     string    `parquet:"event_type,dict"`
	SchemaVersion int32     `parquet:"schema_version"`
	OccurredAt    int64     `parquet:"occurred_at,timestamp(microsecond),delta"`
	EventData     string    `parquet:"event_data"`
	Metadata      string    `parquet:"metadata,dict"`
}

// partWriter collects a part's events.
type partWriter struct {
	index   index
	lines   []byte // of the frame that is being filled
	first   eventstore.Position
	inFrame int
	raw     int64
	events  []byte // finished frames
	zstd    *zstd.Encoder
	parquet *parquet.GenericWriter[parquetRow]
	columns bytes.Buffer
	rows    []parquetRow
	most    partRows
}

func newPartWriter(most partRows) (*partWriter, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest)) // a percent larger, in 60 % of the time
	if err != nil {
		return nil, err
	}
	w := &partWriter{zstd: encoder, most: most}
	w.reset()
	return w, nil
}

func (w *partWriter) reset() {
	w.index = index{Of: map[eventstore.StreamID][]seen{}}
	w.lines, w.events, w.inFrame, w.raw = w.lines[:0], nil, 0, 0
	w.columns = bytes.Buffer{}
	// A writer of its own: one that was reset writes other bytes, and a part has to be the same whoever begins with it.
	w.parquet = parquet.NewGenericWriter[parquetRow](&w.columns, parquet.Compression(&parquetzstd.Codec{Level: parquetzstd.SpeedFastest}),
		parquet.MaxRowsPerRowGroup(groupRows), parquet.CreatedBy("hindsight", "1", ""))
}

func (w *partWriter) full() bool { return w.index.Part.Rows >= w.most.part || w.raw >= partBytes }

func (w *partWriter) add(e *eventstore.Recorded) error {
	part := &w.index.Part
	if part.Rows == 0 {
		part.First, part.FirstRecorded, part.LastRecorded = e.Position, e.RecordedAt, e.RecordedAt
	}
	if w.inFrame == 0 {
		w.first = e.Position
	}
	part.Last = e.Position
	part.FirstRecorded, part.LastRecorded = earlier(part.FirstRecorded, e.RecordedAt), later(part.LastRecorded, e.RecordedAt)
	part.Rows++
	w.inFrame++
	before := len(w.lines)
	w.lines = appendLine(w.lines, e)
	w.raw += int64(len(w.lines) - before)
	frames := w.index.Of[e.StreamID]
	if n := len(w.index.Frames); len(frames) == 0 || frames[len(frames)-1].frame() != n {
		w.index.Of[e.StreamID] = append(frames, seen{int64(n), int64(e.Version)})
	}
	w.rows = append(w.rows, parquetRow{
		Position: int64(e.Position), RecordedAt: e.RecordedAt.UnixMicro(), StreamID: string(e.StreamID), Version: int64(e.Version),
		EventID: e.ID, EventType: e.Type, SchemaVersion: int32(e.SchemaVersion), OccurredAt: e.OccurredAt.UnixMicro(),
		EventData: string(e.JSON), Metadata: string(e.MetadataJSON),
	})
	if w.inFrame >= w.most.frame || len(w.lines) >= frameBytes {
		return w.endFrame(e.Position)
	}
	return nil
}

func (w *partWriter) endFrame(last eventstore.Position) error {
	if w.inFrame == 0 {
		return nil
	}
	written := make(chan error, 1)
	go func() {
		_, err := w.parquet.Write(w.rows)
		written <- err
	}()
	offset := int64(len(w.events))
	w.events = w.zstd.EncodeAll(w.lines, w.events)
	w.index.Frames = append(w.index.Frames, frame{Offset: offset, Bytes: int64(len(w.events)) - offset, First: w.first, Last: last})
	err := <-written
	w.lines, w.inFrame, w.rows = w.lines[:0], 0, w.rows[:0]
	return err
}

// objects ends the part. The index is written last: where it is, the others are.
func (w *partWriter) objects(month time.Time, n int) (contents [3][]byte, part Part, err error) {
	if err = w.endFrame(w.index.Part.Last); err != nil {
		return contents, part, err
	}
	if err = w.parquet.Close(); err != nil {
		return contents, part, err
	}
	key := func(kind string) string { return folder(month) + partName(n, kind) }
	contents[0], contents[1] = w.events, w.columns.Bytes()
	w.index.Part.Streams = newBloom(len(w.index.Of))
	for id := range w.index.Of {
		w.index.Part.Streams.add(id)
	}
	w.index.Part.Events = describe(key("ndjson.zst"), contents[0])
	w.index.Part.Parquet = describe(key("parquet"), contents[1])
	text, err := json.Marshal(w.index)
	if err != nil {
		return contents, part, err
	}
	contents[2] = w.zstd.EncodeAll(text, nil)
	part = w.index.Part
	part.Index = describe(key("index.zst"), contents[2])
	return contents, part, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// decoder reads what partWriter wrote.
type decoder struct{ zstd *zstd.Decoder }

func newDecoder() (decoder, error) {
	// A damaged frame must not ask for all memory there is: a frame is at most one event above frameBytes, escaped.
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(1<<30))
	return decoder{d}, err
}

// index also returns the bytes of its text.
func (d decoder) index(content []byte) (x *index, size int, err error) {
	text, err := d.zstd.DecodeAll(content, nil)
	if err != nil {
		return nil, 0, err
	}
	x = &index{}
	return x, len(text), json.Unmarshal(text, x)
}

// frame reads the events of one frame of a part's object; size is the bytes of its text.
func (d decoder) frame(content []byte) (events []eventstore.Recorded, size int, err error) {
	text, err := d.zstd.DecodeAll(content, nil)
	if err != nil {
		return nil, 0, err
	}
	size = len(text)
	events = make([]eventstore.Recorded, 0, bytes.Count(text, []byte("\n")))
	for len(text) > 0 {
		data, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			return nil, 0, fmt.Errorf("its last line has no end")
		}
		events = append(events, eventstore.Recorded{})
		if err := parseLine(data, &events[len(events)-1]); err != nil {
			return nil, 0, err
		}
		text = rest
	}
	return events, size, nil
}
