package eventstore

import (
	"context"
	"iter"
	"sync"
	"time"
)

// Follow yields the events after a position (0: from the start) that pass the filter, in position order, and then waits
// for new ones, until ctx ends (which is then the error) or the loop is left. Otherwise as [Store.All]; none is skipped.
//
// Appends through the same store wake it at once, outside transactions; all others are found by polling, after 5 ms while
// there is news, up to Config.PollInterval when there is none. One of a store's followers polls for all of them; each
// also looks for itself once a second (or PollInterval, if that is longer). If the server restarted, Follow checks that
// the last event it yielded is still there; if not, the error matches [ErrLogRewound]. A lost connection ends the loop
// with its error: go on after the last event yielded, where [Store.Resume] finds its [Recorded.Cursor] (a fail-over to a
// standby can lose the newest events). In a store of [Store.WithTx] the error is [ErrNoPool].
func (s *Store) Follow(ctx context.Context, after Position, filter Filter) iter.Seq2[Recorded, error] {
	return func(yield func(Recorded, error) bool) {
		s.follow(ctx, after, filter, func(err error) { yield(Recorded{}, err) }, func(reader *logReader, delivered *place) bool {
			return s.drain(ctx, reader, func(event Recorded, err error) bool {
				if err == nil {
					*delivered = place{position: event.Position, eventID: event.ID, recordedAt: event.RecordedAt}
				}
				return yield(event, err)
			})
		})
	}
}

// follow drains what is there, waits for more, and so on, until drain says that the loop is over. drain notes the event
// that it has delivered last.
func (s *Store) follow(ctx context.Context, after Position, filter Filter, fail func(error), drain func(*logReader, *place) bool) {
	if s.pool == nil {
		fail(ErrNoPool)
		return
	}
	reader, err := s.newLogReader(after, filter)
	if err != nil {
		fail(err)
		return
	}
	var delivered place
	for {
		changed := s.news.subscribe() // before the survey: an append that ends during it must not be missed
		found, err := reader.survey(ctx)
		if err == nil && delivered.position > 0 && !reader.started.IsZero() && !found.started.Equal(reader.started) {
			err = s.checkEvent(ctx, delivered)
		}
		reader.started = found.started
		if err != nil {
			fail(err)
			return
		}
		if len(reader.segments) > 0 {
			if !drain(reader, &delivered) {
				return
			}
			continue
		}
		changed = s.news.observe(found.settled, changed)
		if err := s.news.wait(ctx, changed, s.config.PollInterval, func(ctx context.Context) (Position, error) {
			found, err := s.settled(ctx, reader.cursor)
			return found.settled, err
		}); err != nil {
			fail(err)
			return
		}
	}
}

const (
	pollSoon = 5 * time.Millisecond
	// A waiting follower surveys the log itself this often (or every PollInterval), whatever the poll says: after a crash
	// the sequence can fall back and reach the same position again between two polls.
	resurvey = time.Second
)

// newsroom wakes the followers of one store. It has no goroutine: of the followers that wait, one polls for all.
type newsroom struct {
	polling chan struct{} // holds a token while one of them polls

	mu      sync.Mutex
	changed chan struct{} // closed at the next news
	settled Position      // as last seen by any of them
	pause   time.Duration // before the next poll; grows while there is no news
}

func newNewsroom() *newsroom {
	return &newsroom{polling: make(chan struct{}, 1), changed: make(chan struct{}), pause: pollSoon}
}

// subscribe returns a channel that closes at the next news.
func (n *newsroom) subscribe() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

// poke is news: an append of this process.
func (n *newsroom) poke() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tell()
}

// observe makes a settled position that differs from the last one seen news for the others. It returns the channel to
// wait on: since itself if there was other news since that was subscribed to.
func (n *newsroom) observe(settled Position, since <-chan struct{}) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	unchanged := since == n.changed
	if n.settled != settled {
		n.settled = settled
		n.tell()
	}
	if unchanged {
		return n.changed
	}
	return since
}

func (n *newsroom) tell() {
	close(n.changed)
	n.changed = make(chan struct{})
	n.pause = pollSoon
}

// nextPause is how long to wait for the next poll; each is twice as long as the one before, up to longest.
func (n *newsroom) nextPause(longest time.Duration) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	pause := min(n.pause, longest)
	n.pause = 2 * pause
	return pause
}

// wait returns at news, or when it is time to survey again; the error is that of ctx or of the look at the log.
func (n *newsroom) wait(ctx context.Context, changed <-chan struct{}, longest time.Duration, look func(context.Context) (Position, error)) error {
	deadline := time.NewTimer(max(resurvey, longest))
	defer deadline.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changed:
		return nil
	case <-deadline.C:
		return nil
	case n.polling <- struct{}{}:
		defer func() { <-n.polling }()
	}
	for {
		timer := time.NewTimer(n.nextPause(longest))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-changed:
			timer.Stop()
			return nil
		case <-deadline.C:
			timer.Stop()
			return nil
		case <-timer.C:
		}
		settled, err := look(ctx)
		if err != nil {
			return err
		}
		n.observe(settled, changed) // closes changed if the position moved
	}
}
