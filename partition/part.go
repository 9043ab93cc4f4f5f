package partition

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
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
	Log    uuid.UUID                      `json:"log"`
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

// row is an event on its way into an archive, in Parquet's own types, for tools that know nothing of us. Times are microseconds since
// 1970; body and metadata are JSON in text.
type row struct {
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

// partWriter collects a part's events. Two goroutines encode what it has collected, frame by frame, until its objects are asked
// for, or it is closed.
type partWriter struct {
	index   index
	lines   frameLines // of the frame that is being filled
	rows    []row
	raw     int64
	most    partRows
	events  *eventWriter
	columns *columnWriter
}

// frameLines are the lines of a frame.
type frameLines struct {
	text        []byte
	first, last eventstore.Position
}

func newPartWriter(log uuid.UUID, most partRows) (*partWriter, error) {
	events, err := newEventWriter()
	if err != nil {
		return nil, err
	}
	return &partWriter{index: index{Log: log, Of: map[eventstore.StreamID][]seen{}}, most: most, events: events, columns: newColumnWriter()}, nil
}

// close ends a part that was given up; else it does nothing.
func (w *partWriter) close() {
	w.events.close()
	_, _ = w.columns.close()
}

func (w *partWriter) full() bool { return w.index.Part.Rows >= w.most.part || w.raw >= partBytes }

func (w *partWriter) add(e *row) {
	part, at, recorded := &w.index.Part, eventstore.Position(e.Position), time.UnixMicro(e.RecordedAt).UTC()
	if part.Rows == 0 {
		part.First, part.FirstRecorded, part.LastRecorded = at, recorded, recorded
	}
	if len(w.rows) == 0 {
		w.lines = frameLines{text: w.events.buffer(), first: at}
	}
	part.Last, w.lines.last = at, at
	part.FirstRecorded, part.LastRecorded = earlier(part.FirstRecorded, recorded), later(part.LastRecorded, recorded)
	part.Rows++
	before := len(w.lines.text)
	w.lines.text = appendLine(w.lines.text, e)
	w.raw += int64(len(w.lines.text) - before)
	frames := w.index.Of[eventstore.StreamID(e.StreamID)]
	if n := w.events.sent; len(frames) == 0 || frames[len(frames)-1].frame() != n {
		id := eventstore.StreamID(strings.Clone(e.StreamID)) // an assignment keeps its key, which is to keep no chunk
		w.index.Of[id] = append(frames, seen{int64(n), e.Version})
	}
	w.rows = append(w.rows, *e)
	if len(w.rows) >= w.most.frame || len(w.lines.text) >= frameBytes {
		w.endFrame()
	}
}

func (w *partWriter) endFrame() {
	if len(w.rows) == 0 {
		return
	}
	w.events.send(w.lines)
	w.columns.frames <- w.rows
	w.rows = make([]row, 0, len(w.rows))
}

// objects ends the part. The index is written last: where it is, the others are.
func (w *partWriter) objects(month time.Time, n int) (contents [3][]byte, part Part, err error) {
	w.endFrame()
	w.events.close()
	contents[0], w.index.Frames = w.events.content, w.events.frames
	if contents[1], err = w.columns.close(); err != nil {
		return contents, part, err
	}
	key := func(kind string) string { return folder(month) + partName(n, kind) }
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
	contents[2] = w.events.zstd.EncodeAll(text, nil)
	part = w.index.Part
	part.Index = describe(key("index.zst"), contents[2])
	return contents, part, nil
}

// eventWriter compresses a part's lines in a goroutine of its own, which ends with close.
type eventWriter struct {
	zstd  *zstd.Encoder
	lines chan frameLines
	sent  int
	free  chan []byte // what was compressed, for the next lines
	end   func()

	content []byte // these two when it is closed
	frames  []frame
}

func newEventWriter() (*eventWriter, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest)) // a percent larger, in 60 % of the time
	if err != nil {
		return nil, err
	}
	w := &eventWriter{zstd: encoder, lines: make(chan frameLines, 1), free: make(chan []byte, 3)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := range w.lines {
			offset := int64(len(w.content))
			w.content = w.zstd.EncodeAll(lines.text, w.content)
			w.frames = append(w.frames, frame{Offset: offset, Bytes: int64(len(w.content)) - offset, First: lines.first, Last: lines.last})
			w.free <- lines.text[:0]
		}
	}()
	w.end = sync.OnceFunc(func() {
		close(w.lines)
		<-done
	})
	return w, nil
}

// buffer is one of three: of the frame that is being filled, the one that waits, and the one that is compressed.
func (w *eventWriter) buffer() []byte {
	select {
	case b := <-w.free:
		return b
	default:
		return nil
	}
}

func (w *eventWriter) send(lines frameLines) {
	w.lines <- lines
	w.sent++
}

func (w *eventWriter) close() { w.end() }

// columnWriter writes a part's Parquet in a goroutine of its own, which ends with close.
type columnWriter struct {
	frames chan []row // as many as make a row group, which takes longer
	close  func() ([]byte, error)
}

func newColumnWriter() *columnWriter {
	w := &columnWriter{frames: make(chan []row, groupRows/1000)}
	var content bytes.Buffer
	// A writer that was reset writes other bytes than a new one, and a part has to be the same whoever begins with it.
	parquet := parquet.NewGenericWriter[row](&content, parquet.Compression(&parquetzstd.Codec{Level: parquetzstd.SpeedFastest}),
		parquet.MaxRowsPerRowGroup(groupRows), parquet.CreatedBy("hindsight", "1", ""))
	done := make(chan error)
	go func() {
		var failed error
		for rows := range w.frames {
			if failed == nil {
				_, failed = parquet.Write(rows)
			}
		}
		done <- cmp.Or(failed, parquet.Close())
	}()
	w.close = sync.OnceValues(func() ([]byte, error) {
		close(w.frames)
		err := <-done
		return content.Bytes(), err
	})
	return w
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
