package partition

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/sight-platform/hindsight/eventstore"
)

// COPY's binary format, both ways: a month's events go through it faster than through queries and parameters.
const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" // signature, flags, no extension
	copyTrailer = "\xff\xff"
	copyFields  = 10
)

// appendCopy encodes a row.
func appendCopy(b []byte, e *eventstore.Recorded) []byte {
	number := func(n uint64) { b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 8), n) }
	text := func(s string) { b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...) }
	b = binary.BigEndian.AppendUint16(b, copyFields)
	number(uint64(e.Position))
	number(sinceY2K(e.RecordedAt))
	text(string(e.StreamID))
	number(uint64(e.Version))
	text(string(e.ID[:]))
	text(e.Type)
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, 4), uint32(e.SchemaVersion))
	number(sinceY2K(e.OccurredAt))
	text(string(e.JSON))
	text(string(e.MetadataJSON))
	return b
}

var errCopy = errors.New("COPY sent what is no row of events")

// decodeCopy reads a row off the front of some bytes, which the row then refers to; false if it is not whole.
func decodeCopy(b string, e *row) (rest string, whole bool, err error) {
	number := func(s string) (n uint64) {
		for i := range len(s) {
			n = n<<8 | uint64(s[i])
		}
		return n
	}
	if len(b) < 2 {
		return b, false, nil
	}
	if number(b[:2]) != copyFields {
		return "", false, errCopy
	}
	var fields [copyFields]string
	rest = b[2:]
	for i := range fields {
		if len(rest) < 4 {
			return b, false, nil
		}
		size := number(rest[:4])
		if size > 1<<30 {
			return "", false, errCopy // a NULL, too
		}
		if uint64(len(rest)) < 4+size {
			return b, false, nil
		}
		fields[i], rest = rest[4:4+size], rest[4+size:]
	}
	for i, size := range [copyFields]int{0: 8, 1: 8, 3: 8, 4: len(e.EventID), 6: 4, 7: 8} {
		if size > 0 && len(fields[i]) != size {
			return "", false, errCopy
		}
	}
	*e = row{
		Position: int64(number(fields[0])), RecordedAt: int64(number(fields[1])) + year2000, StreamID: fields[2], Version: int64(number(fields[3])),
		EventType: fields[5], SchemaVersion: int32(number(fields[6])), OccurredAt: int64(number(fields[7])) + year2000, EventData: fields[8], Metadata: fields[9],
	}
	copy(e.EventID[:], fields[4])
	return rest, true, nil
}

// What a statement reads at once: none stays open, with its snapshot, for as long as an export takes, but for that of some parts.
const statementRows = 10_000

// chunkBytes is what of it is in memory at a time: three chunks, each larger by an event at most.
const chunkBytes = 1 << 20

// eachChunk reads a month's events in position order, the next ones while f is at work.
func (k *keeper) eachChunk(ctx context.Context, m registered, after eventstore.Position, f func([]row) error) error {
	reader := &copyReader{chunks: make(chan []row, 1), stop: make(chan struct{}), after: after}
	var failed error
	go func() {
		defer close(reader.chunks)
		for rows := statementRows; rows == statementRows && failed == nil && !reader.stopped; {
			rows, failed = reader.read(ctx, k, m)
		}
	}()
	for rows := range reader.chunks {
		if err := f(rows); err != nil {
			close(reader.stop) // a cancelled statement would cost the connection: it runs to its end
			for range reader.chunks {
			}
			return err
		}
	}
	return failed
}

// copyReader takes what COPY sends.
type copyReader struct {
	chunks  chan []row
	stop    chan struct{}
	stopped bool

	after eventstore.Position
	bytes []byte
	begun bool
	rows  int
	err   error
}

// read runs one statement, and returns the number of its rows.
func (r *copyReader) read(ctx context.Context, k *keeper, m registered) (int, error) {
	r.begun, r.rows, r.bytes = false, 0, r.bytes[:0]
	rows := strings.NewReplacer("{{after}}", fmt.Sprint(r.after), "{{limit}}", fmt.Sprint(statementRows)).Replace(k.on(m, "rows"))
	_, err := k.conn.PgConn().CopyTo(ctx, r, "COPY ("+rows+") TO STDOUT (FORMAT binary)")
	if err == nil {
		r.hand()
		err = r.err
	}
	if err == nil && !r.stopped && string(r.bytes) != copyTrailer {
		err = errCopy
	}
	return r.rows, err
}

// Write never fails, which would cost the connection: what is wrong is found in r.err.
func (r *copyReader) Write(piece []byte) (int, error) {
	if r.err != nil || r.stopped {
		return len(piece), nil
	}
	if r.bytes = append(r.bytes, piece...); len(r.bytes) >= chunkBytes {
		r.hand()
	}
	return len(piece), nil
}

// hand decodes the rows that are whole, and hands them over.
func (r *copyReader) hand() {
	if !r.begun && len(r.bytes) >= len(copyHeader) {
		r.bytes, r.begun = r.bytes[len(copyHeader):], true
	}
	var rows []row
	rest := string(r.bytes)
	for r.begun && rest != copyTrailer {
		var e row
		var whole bool
		if rest, whole, r.err = decodeCopy(rest, &e); r.err != nil || !whole {
			break
		}
		rows = append(rows, e)
	}
	if r.err != nil || len(rows) == 0 {
		return
	}
	r.rows += len(rows)
	r.after = eventstore.Position(rows[len(rows)-1].Position)
	r.bytes = append(r.bytes[:0], rest...)
	select {
	case r.chunks <- rows:
	case <-r.stop:
		r.stopped = true
	}
}
