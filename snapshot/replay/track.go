package replay

import (
	"container/heap"
	"context"
	"slices"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
)

// pageEvents is how many events of a stream are held at a time: as many as a store reads at a time by default.
const pageEvents = 1000

// track is the order of the steps: a merge of streams, of which it keeps a short entry for each event that it has passed.
type track struct {
	store   *eventstore.Store
	sources []*source
	index   []entry
	total   int   // events of all streams
	ahead   queue // the sources that have events after the index
	// stale says that the first of ahead has its key from its last event in the index. The next event is read only when it is
	// needed: its page takes the place of the one before.
	stale bool
	feed  *feed // may be nil
}

// entry is a step: which event it is, and when it plays in microseconds.
type entry struct {
	at      int64
	source  int32
	version int32
}

// source is one stream.
type source struct {
	place int32 // in track.sources
	id    eventstore.StreamID
	head  eventstore.Version // the last event that plays
	next  eventstore.Version // the first one after the index
	key   key                // of next
	fed   eventstore.Version // the last one that the feed has brought
	page  []*eventstore.Recorded
}

// key orders events: never falling within a stream.
type key struct {
	at       int64
	position eventstore.Position
}

type queue []*source

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if a, b := q[i].key, q[j].key; a.at != b.at {
		return a.at < b.at
	}
	return q[i].key.position < q[j].key.position
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(s any)   { *q = append(*q, s.(*source)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// add reads where a stream begins and ends. The rest of it waits until its time has come.
func (t *track) add(ctx context.Context, id eventstore.StreamID) error {
	head, err := t.store.Head(ctx, id)
	if err != nil {
		return err
	}
	s := &source{place: int32(len(t.sources)), id: id, head: head.Version, next: 1}
	for event, err := range t.store.Backward(ctx, id, 2) { // the first event alone
		if err != nil {
			return err
		}
		s.key = key{at: event.OccurredAt.UnixMicro(), position: event.Position}
	}
	t.sources = append(t.sources, s)
	t.total += int(s.head)
	heap.Push(&t.ahead, s)
	return nil
}

// extend puts the next event of the merge into the index.
func (t *track) extend(ctx context.Context) error {
	if len(t.index) == t.total {
		return ErrEnd
	}
	if s := t.ahead[0]; t.stale && s.next > s.head {
		heap.Pop(&t.ahead)
		s.passed(s.head)
	} else if t.stale {
		event, err := t.event(ctx, s, s.next)
		if err != nil {
			return err
		}
		s.key = key{at: max(s.key.at, event.OccurredAt.UnixMicro()), position: event.Position}
		heap.Fix(&t.ahead, 0)
	}
	s := t.ahead[0]
	t.index = append(t.index, entry{at: s.key.at, source: s.place, version: int32(s.next)})
	s.next++
	t.stale = true
	return nil
}

// step is which event step k is, from 0; [ErrEnd] after the last one. It extends the index up to there.
func (t *track) step(ctx context.Context, k int) (*source, eventstore.Version, error) {
	for len(t.index) <= k {
		if err := t.extend(ctx); err != nil {
			return nil, 0, err
		}
	}
	return t.sources[t.index[k].source], eventstore.Version(t.index[k].version), nil
}

// at is when step k plays, which is in the index.
func (t *track) at(k int) time.Time { return time.UnixMicro(t.index[k].at).UTC() }

// event is an event of a stream. Pages begin at multiples of pageEvents, so that going back reads as
// few of them as going on.
func (t *track) event(ctx context.Context, s *source, version eventstore.Version) (*eventstore.Recorded, error) {
	i := s.held(version)
	if i < 0 && t.feed != nil {
		t.feed.bring(ctx, t, s, version)
		i = s.held(version)
	}
	if i >= 0 {
		return s.page[i], nil
	}
	page := s.page[:0]
	s.page = nil
	for event, err := range t.store.Stream(ctx, s.id, (version-1)/pageEvents*pageEvents) {
		if err != nil {
			return nil, err
		}
		page = append(page, &event)
		if len(page) == pageEvents || event.Version == s.head {
			break
		}
	}
	s.page = page
	if i := s.held(version); i >= 0 {
		return s.page[i], nil
	}
	return nil, &eventstore.CorruptError{StreamID: s.id, Version: version, Head: s.head} // Stream itself says so before
}

// passed lets go of the page after the last event: many streams one after the other must not add up.
func (s *source) passed(version eventstore.Version) {
	if version == s.head {
		s.page = nil
	}
}

// held is the place of a version in the page, or -1.
func (s *source) held(version eventstore.Version) int {
	if len(s.page) == 0 || version < s.page[0].Version || version > s.page[len(s.page)-1].Version {
		return -1
	}
	return int(version - s.page[0].Version)
}

// find is the step of a version, from 0.
func (t *track) find(ctx context.Context, id eventstore.StreamID, version eventstore.Version) (int, error) {
	place := slices.IndexFunc(t.sources, func(s *source) bool { return s.id == id })
	if place < 0 || version < 1 || version > t.sources[place].head {
		return 0, ErrNoStep
	}
	s := t.sources[place]
	for s.next <= version {
		if err := t.extend(ctx); err != nil {
			return 0, err
		}
	}
	return slices.IndexFunc(t.index, func(e entry) bool { return e.source == s.place && e.version == int32(version) }), nil
}

// until is the last step at or before a time, from 0; -1 if there is none.
func (t *track) until(ctx context.Context, at int64) (int, error) {
	for len(t.index) < t.total && (len(t.index) == 0 || t.index[len(t.index)-1].at <= at) {
		if err := t.extend(ctx); err != nil {
			return 0, err
		}
	}
	after, _ := slices.BinarySearchFunc(t.index, at, func(e entry, at int64) int {
		if e.at <= at {
			return -1
		}
		return 1
	})
	return after - 1, nil
}
