package partition

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
)

// Cold reads archived months, for [eventstore.Config]. It fetches only the objects that hold what is asked for, checks their
// SHA-256, and keeps them in a directory up to a size. It is safe for concurrent use; a directory serves one Cold at a time.
type Cold struct {
	blob    Blob
	cache   *cache
	decoder decoder

	mu        sync.Mutex
	manifests lru[*Manifest] // by what the registry says of the archive
	indexes   lru[*index]
	frames    lru[[]eventstore.Recorded]
}

var _ eventstore.Cold = (*Cold)(nil)

// What is kept in memory, in bytes as they are written out; decoded, they take two or three times that.
const (
	keptManifests = 32 << 20 // some kilobytes a part, for its streams
	keptIndexes   = 32 << 20 // a part's index has some megabytes at most
	keptFrames    = 32 << 20 // of about 1 MB each: readers that go through a month page by page come back to one
)

// NewCold reads from an archive through a directory for copies of what it has fetched, of at most maxBytes (0: 1 GiB; one object
// is kept in any case). What an earlier process has left there is used.
func NewCold(archive Blob, dir string, maxBytes int64) (*Cold, error) {
	if maxBytes == 0 {
		maxBytes = 1 << 30
	}
	if maxBytes < 0 {
		return nil, &eventstore.InvalidError{Index: -1, Field: "maxBytes", Reason: "is negative"}
	}
	decoder, err := newDecoder()
	if err != nil {
		return nil, err
	}
	cache, err := newCache(archive, dir, maxBytes)
	if err != nil {
		return nil, err
	}
	return &Cold{
		blob: archive, cache: cache, decoder: decoder, manifests: newLRU[*Manifest](keptManifests),
		indexes: newLRU[*index](keptIndexes), frames: newLRU[[]eventstore.Recorded](keptFrames),
	}, nil
}

// Log implements [eventstore.Cold].
func (c *Cold) Log(ctx context.Context, month eventstore.ArchivedMonth, after, upTo eventstore.Position, limit int) ([]eventstore.Recorded, error) {
	manifest, err := c.manifest(ctx, month)
	if err != nil {
		return nil, err
	}
	var events []eventstore.Recorded
	for _, part := range manifest.Parts {
		if part.Last <= after {
			continue
		}
		if part.First > upTo || len(events) == limit {
			break
		}
		x, err := c.index(ctx, month.Month, part)
		if err != nil {
			return nil, err
		}
		from, _ := slices.BinarySearchFunc(x.Frames, after+1, func(f frame, p eventstore.Position) int { return cmp.Compare(f.Last, p) })
		for n := from; n < len(x.Frames) && x.Frames[n].First <= upTo && len(events) < limit; n++ {
			found, err := c.frame(ctx, month.Month, part, x, n)
			if err != nil {
				return nil, err
			}
			for i := range found {
				if found[i].Position > after && found[i].Position <= upTo && len(events) < limit {
					events = append(events, own(found[i]))
				}
			}
		}
	}
	return events, nil
}

// own is an event that its reader may change.
func own(e eventstore.Recorded) eventstore.Recorded {
	e.JSON, e.MetadataJSON = slices.Clone(e.JSON), slices.Clone(e.MetadataJSON)
	return e
}

// Stream implements [eventstore.Cold].
func (c *Cold) Stream(ctx context.Context, month eventstore.ArchivedMonth, id eventstore.StreamID, low, high eventstore.Version) ([]eventstore.Recorded, error) {
	manifest, err := c.manifest(ctx, month)
	if err != nil {
		return nil, err
	}
	var events []eventstore.Recorded
	for _, part := range manifest.Parts {
		if !part.Streams.mayHold(id) {
			continue
		}
		x, err := c.index(ctx, month.Month, part)
		if err != nil {
			return nil, err
		}
		frames := x.Of[id]
		for i, s := range frames {
			if i+1 < len(frames) && frames[i+1].first() <= low {
				continue
			}
			if s.first() > high {
				return events, nil
			}
			found, err := c.frame(ctx, month.Month, part, x, s.frame())
			if err != nil {
				return nil, err
			}
			for i := range found {
				if found[i].StreamID == id && found[i].Version >= low && found[i].Version <= high {
					events = append(events, own(found[i]))
				}
			}
		}
	}
	return events, nil // positions and versions of a stream grow together
}

func (c *Cold) manifest(ctx context.Context, month eventstore.ArchivedMonth) (*Manifest, error) {
	if month.Archive == "" {
		return nil, fmt.Errorf("month %s: its archive is not kept any more", month.Month.Format("2006-01"))
	}
	return c.manifests.get(&c.mu, month.Archive, func() (*Manifest, int, error) {
		manifest, err := readManifest(ctx, c.blob, month.Month, month.Archive)
		if err != nil {
			return nil, 0, err
		}
		size := 1000
		for _, part := range manifest.Parts {
			size += 1000 + len(part.Streams)
		}
		return manifest, size, nil
	})
}

func (c *Cold) index(ctx context.Context, month time.Time, part Part) (*index, error) {
	return c.indexes.get(&c.mu, part.Index.SHA256, func() (*index, int, error) {
		content, err := c.cache.whole(ctx, month, part.Index)
		if err != nil {
			return nil, 0, err
		}
		x, size, err := c.decoder.index(content)
		if err != nil {
			return nil, 0, &DamagedError{Month: month, Key: part.Index.Key, Problem: "cannot be read", Err: err}
		}
		return x, size, nil
	})
}

// frame hands out events that are shared: they must not be changed.
func (c *Cold) frame(ctx context.Context, month time.Time, part Part, x *index, n int) ([]eventstore.Recorded, error) {
	return c.frames.get(&c.mu, fmt.Sprintf("%s %d", part.Events.SHA256, n), func() ([]eventstore.Recorded, int, error) {
		piece, err := c.cache.piece(ctx, month, part.Events, x.Frames[n].Offset, x.Frames[n].Bytes)
		if err != nil {
			return nil, 0, err
		}
		events, size, err := c.decoder.frame(piece)
		if err != nil { // the copy on the disk may be spoilt
			c.cache.forget(part.Events)
			if piece, err = c.cache.piece(ctx, month, part.Events, x.Frames[n].Offset, x.Frames[n].Bytes); err != nil {
				return nil, 0, err
			}
			events, size, err = c.decoder.frame(piece)
		}
		if err != nil {
			return nil, 0, &DamagedError{Month: month, Key: part.Events.Key, Problem: "cannot be read", Err: err}
		}
		return events, size, nil
	})
}
