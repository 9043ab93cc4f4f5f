package eventstore

import (
	"encoding/binary"
	"io"
	"time"

	"github.com/google/uuid"
)

// copyReader is the items of a batch in the binary format of COPY. pgx's own CopyFrom boxes each value and looks up how to
// encode it; here the columns are known.
type copyReader struct {
	batch *importBatch
	left  []int  // items to encode
	piece []byte // encoded
	read  int    // of piece
	done  bool
}

const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" // signature, flags, no extension
	copyTrailer = "\xff\xff"
	copyFields  = 10
	copyPiece   = 60 << 10 // what pgconn reads at a time is a little more

	microsTo2000 = 946_684_800_000_000 // from 1970: where PostgreSQL counts from
)

func newCopyReader(b *importBatch, written []int) *copyReader {
	return &copyReader{batch: b, left: written, piece: append(make([]byte, 0, copyPiece), copyHeader...)}
}

// Read encodes further rows when those before are read.
func (c *copyReader) Read(into []byte) (int, error) {
	if c.read == len(c.piece) {
		if c.done {
			return 0, io.EOF
		}
		c.piece, c.read = c.piece[:0], 0
		for len(c.left) > 0 && len(c.piece) < copyPiece {
			c.row(c.left[0])
			c.left = c.left[1:]
		}
		if c.done = len(c.left) == 0; c.done {
			c.piece = append(c.piece, copyTrailer...)
		}
	}
	n := copy(into, c.piece[c.read:])
	c.read += n
	return n, nil
}

func (c *copyReader) row(i int) {
	item, events := &c.batch.items[i], &c.batch.columns.events
	occurred := item.recordedAt
	if given := events.occurred[i]; given != nil {
		occurred = *given
	}
	c.piece = binary.BigEndian.AppendUint16(c.piece, copyFields)
	c.int8(int64(item.position))
	c.time(item.recordedAt)
	c.text(string(item.stream.id))
	c.int8(int64(item.version))
	c.uuid(c.batch.columns.eventIDs[i])
	c.text(events.types[i])
	c.int4(events.schemaVersions[i])
	c.time(occurred)
	c.text(events.data[i])
	c.text(events.metadata[i])
}

func (c *copyReader) length(n int) { c.piece = binary.BigEndian.AppendUint32(c.piece, uint32(n)) }

func (c *copyReader) int8(v int64) {
	c.length(8)
	c.piece = binary.BigEndian.AppendUint64(c.piece, uint64(v))
}

func (c *copyReader) int4(v int32) {
	c.length(4)
	c.piece = binary.BigEndian.AppendUint32(c.piece, uint32(v))
}

func (c *copyReader) time(t time.Time) { c.int8(t.UnixMicro() - microsTo2000) }

func (c *copyReader) uuid(id uuid.UUID) {
	c.length(len(id))
	c.piece = append(c.piece, id[:]...)
}

func (c *copyReader) text(s string) {
	c.length(len(s))
	c.piece = append(c.piece, s...)
}
