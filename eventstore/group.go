package eventstore

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"
)

// group coalesces the concurrent appends of a store into shared statements and commits.
//
// There are a few lanes. An append that finds a lane free takes it and goes by itself, in its caller's goroutine; those
// that find none wait. Whoever leaves a lane hands it to all that wait by then: as one statement, in a goroutine that ends
// with the last of them, or, if there is only one, to its caller. So nothing runs when nobody appends, no timer delays
// anybody, and a batch is as large as the load makes it.
//
// A batch holds one append a stream at most: in one statement, two would both see the stream at the same version. It
// writes those whose stream's head is free and where it is expected; all others, and everybody if the statement fails, go
// by themselves, so that each gets its own error and nobody waits for another's lock.
type group struct {
	mu      sync.Mutex
	free    int                   // lanes
	waiting []*waiter             // first come, first served
	busy    map[StreamID]struct{} // streams whose append is under way
}

const (
	groupLanes = 2
	// laneTime is how long an append may keep its lane while others wait: one that waits for a lock must not stop them.
	laneTime = 50 * time.Millisecond
	// groupTimeout bounds a statement for several callers, as none of their contexts does.
	groupTimeout = 30 * time.Second
	maxGroup     = 256 // appends in a statement
)

func newGroup() *group { return &group{free: groupLanes, busy: make(map[StreamID]struct{})} }

// waiter is an append that waits for a lane.
type waiter struct {
	ctx     context.Context //nolint:containedctx // a batch takes the values of its first caller's
	request *appendRequest
	verdict chan verdict // holds one
	lane    *lane        // set when it is handed one, under the group's lock
	taken   bool         // out of the queue, under the group's lock
}

// verdict tells a waiter that its append is written, or how to go on.
type verdict struct {
	receipt *Receipt // written
	lost    bool     // it was sent, and the answer was lost
}

// lane is the right to send.
type lane struct {
	back  bool // under the group's lock
	timer *time.Timer
}

// append writes a request, with others if there are any.
func (g *group) append(ctx context.Context, s *Store, r *appendRequest) (Receipt, error) {
	g.mu.Lock()
	if _, busy := g.busy[r.stream]; g.free > 0 && !busy {
		g.busy[r.stream] = struct{}{}
		l := g.enterLane(s)
		g.mu.Unlock()
		return g.lead(ctx, s, r, l)
	}
	w := &waiter{ctx: ctx, request: r, verdict: make(chan verdict, 1)}
	g.waiting = append(g.waiting, w)
	g.mu.Unlock()
	select {
	case v := <-w.verdict:
		return g.obey(ctx, s, w, v)
	case <-ctx.Done():
	}
	g.mu.Lock()
	if !w.taken {
		g.waiting = slices.DeleteFunc(g.waiting, func(other *waiter) bool { return other == w })
	}
	g.mu.Unlock()
	switch {
	case !w.taken:
		return Receipt{}, ctx.Err()
	case w.lane != nil:
		g.leave(s, w.lane, r)
		return Receipt{}, ctx.Err()
	}
	return Receipt{}, outcomeUnknown([]*appendRequest{r}, ctx.Err())
}

// obey does what the verdict says.
func (g *group) obey(ctx context.Context, s *Store, w *waiter, v verdict) (Receipt, error) {
	switch {
	case v.receipt != nil:
		return *v.receipt, nil
	case w.lane != nil:
		return g.lead(ctx, s, w.request, w.lane)
	}
	return s.appendAlone(ctx, w.request, v.lost)
}

// lead sends one append through a lane.
func (g *group) lead(ctx context.Context, s *Store, r *appendRequest, l *lane) (Receipt, error) {
	defer g.leave(s, l, r)
	return s.appendAlone(ctx, r, false)
}

// enterLane takes a lane that is free; the group is locked.
func (g *group) enterLane(s *Store) *lane {
	g.free--
	l := &lane{}
	l.timer = time.AfterFunc(laneTime, func() { g.leave(s, l) })
	return l
}

// done says that appends are no longer under way.
func (g *group) done(requests []*appendRequest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range requests {
		delete(g.busy, r.stream)
	}
}

// leave gives a lane back, if it was not, and says which appends are done.
func (g *group) leave(s *Store, l *lane, done ...*appendRequest) {
	g.done(done)
	g.mu.Lock()
	defer g.mu.Unlock()
	if !l.back {
		l.back = true
		l.timer.Stop()
		g.free++
	}
	g.dispatch(s)
}

// dispatch gives free lanes to those who wait; the group is locked.
func (g *group) dispatch(s *Store) {
	for g.free > 0 {
		batch := g.take()
		switch len(batch) {
		case 0:
			return
		case 1:
			batch[0].lane = g.enterLane(s)
			batch[0].verdict <- verdict{}
		default:
			go g.send(s, batch, g.enterLane(s))
		}
	}
}

// take picks the next batch: of each stream one, of those under way none; the group is locked.
func (g *group) take() (batch []*waiter) {
	bytes := 0
	left := g.waiting[:0]
	for _, w := range g.waiting {
		_, busy := g.busy[w.request.stream]
		if busy || len(batch) == maxGroup || len(batch) > 0 && bytes+w.request.bytes > MaxAppendBytes {
			left = append(left, w)
			continue
		}
		g.busy[w.request.stream] = struct{}{}
		bytes += w.request.bytes
		w.taken = true
		batch = append(batch, w)
	}
	clear(g.waiting[len(left):])
	g.waiting = left
	return batch
}

// send writes a batch in one statement, and tells each of its callers.
func (g *group) send(s *Store, batch []*waiter, l *lane) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(batch[0].ctx), groupTimeout)
	defer cancel()
	slices.SortFunc(batch, func(a, b *waiter) int { return cmp.Compare(a.request.stream, b.request.stream) })
	requests := make([]*appendRequest, len(batch))
	for i, w := range batch {
		requests[i] = w.request
	}
	receipts, err := s.appendGroup(ctx, requests)
	g.done(requests)
	for i, w := range batch {
		v := verdict{lost: errors.Is(err, ErrOutcomeUnknown)}
		if receipts != nil {
			v.receipt = receipts[i]
		}
		w.verdict <- v
	}
	runtime.Gosched() // callers that append again at once come first, and go together
	g.leave(s, l)
}

// appendGroup runs append_group. The receipt of an append that must go by itself is nil.
func (s *Store) appendGroup(ctx context.Context, requests []*appendRequest) ([]*Receipt, error) {
	db, release, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	all := joinRequests(requests)
	var heads []*int64
	var positions []int64
	var at time.Time
	if err := db.QueryRow(ctx, s.sql.appendGroup, all.streams, all.expected, all.projects, all.counts, all.before, all.of,
		all.events.ids, all.events.types, all.events.schemaVersions, all.events.occurred, all.events.data, all.events.metadata,
		all.since, s.clockTime()).Scan(&heads, &at, &positions); err != nil {
		return nil, s.classifyAppend(err)
	}
	receipts := make([]*Receipt, len(requests))
	for i := range heads { // none where the month is missing
		if heads[i] != nil {
			n := len(requests[i].eventIDs)
			receipt := requests[i].receipt(Version(*heads[i])+Version(n), at, positions[:n])
			receipts[i], positions = &receipt, positions[n:]
		}
	}
	s.news.poke()
	return receipts, nil
}
