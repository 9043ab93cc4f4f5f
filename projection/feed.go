package projection

import (
	"context"
	"log/slog"
	"sort"
	"sync"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
)

// feed is the end of the log, read once for all shards of a process. A shard that is too far behind reads for itself until
// it is near enough.
type feed struct {
	store  *eventstore.Store
	logger *slog.Logger

	mu      sync.Mutex
	chunks  []eventstore.Chunk // one after another
	start   eventstore.Position
	end     eventstore.Position
	last    eventstore.Cursor // of the event read last
	bytes   int
	ready   bool          // begun
	begun   chan struct{} // closed when a shard is near enough to begin with
	changed chan struct{} // closed at the next chunk
}

const maxFeedBytes = 32 << 20

func newFeed(store *eventstore.Store, logger *slog.Logger) *feed {
	return &feed{store: store, logger: logger, changed: make(chan struct{}), begun: make(chan struct{})}
}

// begin starts the feed where a shard has come to the end of the log.
func (f *feed) begin(at eventstore.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ready {
		return
	}
	f.start, f.end, f.ready = at, at, true
	close(f.begun)
}

// run follows the log, once it has begun, until ctx ends. After a lost connection it goes on where it was. The error is that
// of a log which is not the one that was read.
func (f *feed) run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.begun:
	}
	pause := newBackoff()
	for {
		err := f.follow(ctx, pause)
		if ctx.Err() != nil || isFatal(err) {
			return err
		}
		f.logger.WarnContext(ctx, "following the log", "err", err)
		f.forget()
		if !pause.wait(ctx, nil) {
			return ctx.Err()
		}
	}
}

// forget drops what was read: after a fail-over it may not be in the log any more.
func (f *feed) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.chunks, f.bytes, f.start = nil, 0, f.end
}

func (f *feed) follow(ctx context.Context, pause *backoff) error {
	f.mu.Lock()
	after, last := f.end, f.last
	f.mu.Unlock()
	if _, err := f.store.Resume(ctx, last); err != nil { // a fail-over to a standby can lose the newest events
		return err
	}
	for chunk, err := range f.store.FollowChunks(ctx, after, eventstore.Filter{}) {
		if err != nil {
			return err
		}
		pause.reset()
		f.add(chunk)
	}
	return ctx.Err()
}

func (f *feed) add(chunk eventstore.Chunk) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.chunks = append(f.chunks, chunk)
	f.end = chunk.UpTo
	if n := len(chunk.Events); n > 0 {
		f.last = chunk.Events[n-1].Cursor()
	}
	f.bytes += sizeOf(chunk)
	for f.bytes > maxFeedBytes && len(f.chunks) > 1 {
		f.bytes -= sizeOf(f.chunks[0])
		f.start = f.chunks[0].UpTo
		f.chunks = f.chunks[1:]
	}
	f.tell()
}

// tell wakes the shards; the feed is locked.
func (f *feed) tell() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// after returns what there is after a position, and a channel that closes when there is more. behind says that the feed
// begins too late.
func (f *feed) after(cursor eventstore.Position) (chunks []eventstore.Chunk, behind bool, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.ready || cursor < f.start:
		return nil, true, f.changed
	case cursor >= f.end:
		return nil, false, f.changed
	}
	i := sort.Search(len(f.chunks), func(i int) bool { return f.chunks[i].UpTo > cursor })
	return f.chunks[i:len(f.chunks):len(f.chunks)], false, f.changed
}

func sizeOf(chunk eventstore.Chunk) int {
	bytes := 0
	for i := range chunk.Events {
		bytes += eventSize(&chunk.Events[i])
	}
	return bytes
}

// eventSize is about what an event takes in memory.
func eventSize(e *eventstore.Recorded) int { return 300 + len(e.JSON) + len(e.MetadataJSON) }

// backoff is a pause that grows while nothing works.
type backoff struct{ pause time.Duration }

const (
	firstPause   = 50 * time.Millisecond
	longestPause = 5 * time.Second
)

func newBackoff() *backoff { return &backoff{pause: firstPause} }

func (b *backoff) reset() { b.pause = firstPause }

// wait pauses, or until ending closes (nil: never); false says that ctx ended.
func (b *backoff) wait(ctx context.Context, ending <-chan struct{}) bool {
	timer := time.NewTimer(b.pause)
	defer timer.Stop()
	b.pause = min(2*b.pause, longestPause)
	select {
	case <-ctx.Done():
		return false
	case <-ending:
		return true
	case <-timer.C:
		return true
	}
}
