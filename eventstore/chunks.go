package eventstore

import (
	"context"
	"iter"
)

// Chunk is a stretch of the global log, for readers that keep a place in it of their own.
type Chunk struct {
	// Events are as they are stored, in position order: Data is a [Raw]; see [Store.Decode]. There may be none.
	Events []Recorded
	// UpTo says how far the chunk goes: all events up to it that pass the filter are in this chunk or an earlier one.
	// Go on after it.
	UpTo Position
}

// Chunks is [Store.All] by the stretch, up to Config.PageSize events each. The events of a chunk may be kept. With a filter that
// chooses little, chunks without events say how far the reading has come.
func (s *Store) Chunks(ctx context.Context, after Position, filter Filter) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		reader, err := s.openLog(ctx, after, filter)
		if err != nil {
			yield(Chunk{}, err)
			return
		}
		s.drainChunks(ctx, reader, yield)
	}
}

// FollowChunks is [Store.Follow] by the stretch.
func (s *Store) FollowChunks(ctx context.Context, after Position, filter Filter) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		s.follow(ctx, after, filter, func(err error) { yield(Chunk{}, err) }, func(reader *logReader, delivered *place) bool {
			return s.drainChunks(ctx, reader, func(chunk Chunk, err error) bool {
				if n := len(chunk.Events); n > 0 {
					last := chunk.Events[n-1]
					*delivered = place{position: last.Position, eventID: last.ID, recordedAt: last.RecordedAt}
				}
				return yield(chunk, err)
			})
		})
	}
}

// drainChunks yields what the reader's survey planned; false says that the loop is over.
func (s *Store) drainChunks(ctx context.Context, reader *logReader, yield func(Chunk, error) bool) bool {
	for len(reader.segments) > 0 {
		reader.buffer = nil // a chunk's events are the caller's
		page, err := reader.window(ctx, s.config.PageSize)
		if err != nil {
			yield(Chunk{}, err)
			return false
		}
		for i := range page {
			page[i].Data = Raw{Type: page[i].Type, SchemaVersion: page[i].SchemaVersion, JSON: page[i].JSON}
		}
		if !yield(Chunk{Events: page, UpTo: reader.cursor}, nil) {
			return false
		}
	}
	return true
}

// Decode decodes an event of a [Chunk] as the other readers do: through the Cipher, the codec and its upcasters.
func (s *Store) Decode(ctx context.Context, event Recorded) (Recorded, error) {
	err := s.decode(ctx, &event)
	return event, err
}
