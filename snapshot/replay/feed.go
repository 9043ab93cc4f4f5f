package replay

import (
	"context"

	"github.com/sight-platform/hindsight/eventstore"
)

const (
	// feedLeast is how many events a player must have for the log to be read, and after how many it is seen whether it pays.
	feedLeast = 4000
	// maxAhead is how many events may wait for their time.
	maxAhead = 10_000
)

// feed reads the log in its own order, in which live discussions lie much as they play: many streams in one go, ahead of
// who plays as fast as it can. It only fills the pages of sources; what it does not bring, track.event reads stream by
// stream. What fails here may be another stream's event, so reading the stream tells.
//
//	goroutine of Steps: store.All ── pages ──► bring: put into sources, under the player's lock
type feed struct {
	store   *eventstore.Store
	sources map[eventstore.StreamID]*source
	after   eventstore.Position // brought so far
	read    int                 // events of the log
	mine    int                 // of them, the player's
	off     bool                // it does not pay, or is over
	pages   <-chan []eventstore.Recorded
}

// newFeed is nil for a player of few events, and in a transaction, which serves one reader at a time.
func newFeed(t *track) *feed {
	if t.total < feedLeast || t.store.Pool() == nil {
		return nil
	}
	f := &feed{store: t.store, sources: make(map[eventstore.StreamID]*source, len(t.sources)), after: t.sources[0].key.position - 1}
	for _, s := range t.sources {
		f.sources[s.id] = s
		f.after = min(f.after, s.key.position-1)
	}
	return f
}

// start begins to read ahead, until stop is called.
func (f *feed) start(ctx context.Context) (stop func()) {
	pages, quit, done := make(chan []eventstore.Recorded, 2), make(chan struct{}), make(chan struct{})
	f.pages = pages
	after := f.after
	go func() {
		defer close(done)
		defer close(pages)
		defer func() { _ = recover() }() // a codec's panic is for who reads the stream, if it is the player's at all
		readAhead(f.store.All(ctx, after, eventstore.Filter{}), pages, quit)
	}()
	return func() {
		close(quit) // not by the context: it would cost the connection of a page that is being read
		<-done
	}
}

func readAhead(events func(func(eventstore.Recorded, error) bool), pages chan<- []eventstore.Recorded, quit <-chan struct{}) {
	page := make([]eventstore.Recorded, 0, pageEvents)
	send := func() bool {
		select {
		case pages <- page:
			page = make([]eventstore.Recorded, 0, pageEvents)
			return true
		case <-quit:
			return false
		}
	}
	for event, err := range events {
		if err != nil {
			break
		}
		if page = append(page, event); len(page) == pageEvents && !send() {
			return
		}
	}
	send()
}

// bring takes pages until a version is there, or the feed is over.
func (f *feed) bring(ctx context.Context, t *track, want *source, version eventstore.Version) {
	for f.pages != nil && want.fed < version {
		select {
		case <-ctx.Done():
			return
		case page := <-f.pages:
			if len(page) == 0 { // closed: the rest is not settled yet, or could not be read
				f.pages = nil
				return
			}
			f.put(page)
		}
		if f.mine == t.total || f.mine-len(t.index) > maxAhead || f.read >= feedLeast && 2*f.mine < f.read {
			f.off, f.pages = true, nil
		}
	}
}

func (f *feed) put(page []eventstore.Recorded) {
	f.read += len(page)
	f.after = page[len(page)-1].Position
	for i := range page {
		if s := f.sources[page[i].StreamID]; s != nil && page[i].Version <= s.head {
			f.mine++
			s.put(&page[i])
		}
	}
}

// put adds the stream's next event to its page, of which the index has passed the first part.
func (s *source) put(event *eventstore.Recorded) {
	s.fed = event.Version
	if n := len(s.page); n > 0 && s.page[n-1].Version != event.Version-1 {
		return // someone went back: it is not the page for it
	}
	if len(s.page) > 0 {
		if passed := int(s.next - 1 - s.page[0].Version); passed > 0 && 2*passed >= len(s.page) {
			s.page = s.page[:copy(s.page, s.page[min(passed, len(s.page)):])]
		}
	}
	s.page = append(s.page, event)
}
