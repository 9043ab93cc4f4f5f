package partition

import (
	"crypto/sha256"
	"encoding/binary"
	"iter"

	"github.com/sight-platform/hindsight/eventstore"
)

// bloom is a set of streams that may take one for its own which is not: one in a hundred. In a manifest it saves a reader the indexes of
// parts that do not hold its stream.
type bloom []byte

const (
	bloomBits   = 10 // a stream
	bloomHashes = 7
)

// newBloom has room for some more where there are few: small filters are often wrong.
func newBloom(streams int) bloom { return make(bloom, max((streams*bloomBits+7)/8, 64)) }

// bits are those that stand for a stream.
func (b bloom) bits(id eventstore.StreamID) iter.Seq2[int, byte] {
	sum := sha256.Sum256([]byte(id))
	at, step := binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:16])
	return func(yield func(int, byte) bool) {
		for n := range uint64(bloomHashes) {
			if bit := (at + n*step) % uint64(8*len(b)); !yield(int(bit/8), 1<<(bit%8)) {
				return
			}
		}
	}
}

func (b bloom) add(id eventstore.StreamID) {
	for i, bit := range b.bits(id) {
		b[i] |= bit
	}
}

// mayHold is false only of a stream that was not added.
func (b bloom) mayHold(id eventstore.StreamID) bool {
	if len(b) == 0 { // it is not there
		return true
	}
	for i, bit := range b.bits(id) {
		if b[i]&bit == 0 {
			return false
		}
	}
	return true
}
