package partition

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
)

const digestBlock = 10_000

// digester computes what sql/digest.sql computes, of events in position order.
type digester struct {
	month, block hash.Hash
	rows         int64
	encoded      []byte
}

func newDigester() *digester { return &digester{month: sha256.New(), block: sha256.New()} }

func (d *digester) add(e *eventstore.Recorded) {
	b := d.encoded[:0]
	text := func(s string) { b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...) }
	b = binary.BigEndian.AppendUint64(b, uint64(e.Position))
	b = binary.BigEndian.AppendUint64(b, sinceY2K(e.RecordedAt))
	text(string(e.StreamID))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Version))
	b = append(b, e.ID[:]...)
	text(e.Type)
	b = binary.BigEndian.AppendUint32(b, uint32(e.SchemaVersion))
	b = binary.BigEndian.AppendUint64(b, sinceY2K(e.OccurredAt))
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(e.JSON))), e.JSON...)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(e.MetadataJSON))), e.MetadataJSON...)
	d.encoded = b
	sum := sha256.Sum256(b)
	d.block.Write(sum[:])
	if d.rows++; d.rows%digestBlock == 0 {
		d.endBlock()
	}
}

func (d *digester) endBlock() {
	d.month.Write(d.block.Sum(nil))
	d.block.Reset()
}

// sum ends it.
func (d *digester) sum() []byte {
	if d.rows%digestBlock != 0 {
		d.endBlock()
	}
	return d.month.Sum(nil)
}

const year2000 = 946_684_800_000_000 // in microseconds since 1970

// sinceY2K is a time as PostgreSQL sends it: microseconds since the year 2000.
func sinceY2K(t time.Time) uint64 {
	return uint64(t.UnixMicro() - year2000)
}
