package eventstore

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Cursor is a place in the global log as an opaque, URL-safe text: for a client, a file, a queue, any keeper outside the
// log's own database. It names the last event delivered, so that a log that was rewound is noticed. The empty cursor is
// the start of the log.
type Cursor string

// place is what a cursor holds; the recorded time leads to the event's month without a search.
type place struct {
	position   Position
	eventID    uuid.UUID
	recordedAt time.Time
}

const cursorVersion = 1

// Cursor is the place just after the event.
func (e Recorded) Cursor() Cursor {
	out := []byte{cursorVersion}
	out = binary.BigEndian.AppendUint64(out, uint64(e.Position))
	out = append(out, e.ID[:]...)
	out = binary.BigEndian.AppendUint64(out, uint64(e.RecordedAt.UnixMicro()))
	return Cursor(base64.RawURLEncoding.EncodeToString(out))
}

func (c Cursor) parse() (place, error) {
	data, err := base64.RawURLEncoding.Strict().DecodeString(string(c))
	if err != nil || len(data) != 1+8+16+8 || data[0] != cursorVersion {
		return place{}, fmt.Errorf("%w: %.60q", ErrBadCursor, string(c))
	}
	p := place{
		position:   Position(binary.BigEndian.Uint64(data[1:])),
		eventID:    uuid.UUID(data[9:25]),
		recordedAt: time.UnixMicro(int64(binary.BigEndian.Uint64(data[25:]))).UTC(),
	}
	if p.position < 1 || p.recordedAt.Before(earliest) || !p.recordedAt.Before(latest) {
		return place{}, fmt.Errorf("%w: %.60q", ErrBadCursor, string(c))
	}
	return p, nil
}

// Resume checks a cursor and returns its position, from which [Store.All] or [Store.Follow] go on. If the log no longer
// holds the event that the cursor names, the error matches [ErrLogRewound]: the keeper has seen what the log has lost.
// With synchronous_commit = off, or after failover to an asynchronous standby, that is the only protection there is.
func (s *Store) Resume(ctx context.Context, cursor Cursor) (Position, error) {
	if cursor == "" {
		return 0, nil
	}
	place, err := cursor.parse()
	if err != nil {
		return 0, err
	}
	if err := s.checkEvent(ctx, place); err != nil {
		return 0, err
	}
	return place.position, nil
}
