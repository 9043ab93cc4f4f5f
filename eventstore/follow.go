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
// Appends of the same process wake it at once; those of others are found by polling, after 5 ms while there is news, up
// to Config.PollInterval when there is none. All followers of a store share one poll. If the server restarted, Follow
// checks that the last event it yielded is still there; if not, the error matches [ErrLogRewound]. A lost connection
// ends the loop with its error: go on after the last position yielded. In a store of [Store.WithTx] the error is [ErrNoPool].
func (s *Store) Follow(ctx context.Context, after Position, filter Filter) iter.Seq2[Recorded, error] {
	return func(yield func(Recorded, error) bool) {
		if s.pool == nil {
			yield(Recorded{}, ErrNoPool)
			return
		}
		reader, err := s.newLogReader(after, filter)
		if err != nil {
			yield(Recorded{}, err)
			return
		}
		var delivered *place
		deliver := func(event Recorded, err error) bool {
			if err == nil {
				delivered = &place{position: event.Position, eventID: event.ID, recordedAt: event.RecordedAt}
			}
			return yield(event, err)
		}
		for {
			changed := s.news.subscribe() // before the survey: an append that ends during it must not be missed
			found, err := reader.survey(ctx)
			if err == nil && delivered != nil && !reader.started.IsZero() && !found.started.Equal(reader.started) {
				err = s.checkEvent(ctx, *delivered)
			}
			reader.started = found.started
			if err != nil {
				yield(Recorded{}, err)
				return
			}
			if len(reader.segments) > 0 {
				if !s.drain(ctx, reader, deliver) {
					return
				}
				continue
			}
			changed = s.news.observe(found.settled, changed)
			if err := s.news.wait(ctx, changed, s.poll(reader.cursor)); err != nil {
				yield(Recorded{}, err)
				return
			}
		}
	}
}

// poll looks at the log from a place where everything was read.
func (s *Store) poll(cursor Position) pollFunc {
	return pollFunc{every: s.config.PollInterval, look: func(ctx context.Context) (Position, error) {
		found, err := s.scanSettled(s.db.QueryRow(ctx, s.sql.settled, int64(cursor)))
		return found.settled, err
	}}
}

type pollFunc struct {
	every time.Duration // at most
	look  func(context.Context) (Position, error)
}

const (
	pollSoon = 5 * time.Millisecond
	// A waiting follower surveys the log itself this often, whatever the poll says: after a crash the sequence can fall
	// back and reach the same position again between two polls.
	resurvey = time.Second
)

// newsroom wakes the followers of one store. It has no goroutine: of the followers that wait, one polls for all.
type newsroom struct {
	polling chan struct{} // holds a token while one of them polls

	mu      sync.Mutex
	changed chan struct{} // closed at the next news
	settled Position      // as last seen by any of them
}

func newNewsroom() *newsroom {
	return &newsroom{polling: make(chan struct{}, 1), changed: make(chan struct{})}
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
}

// wait returns at news, or after resurvey; the error is that of ctx or of the poll.
func (n *newsroom) wait(ctx context.Context, changed <-chan struct{}, poll pollFunc) error {
	deadline := time.NewTimer(resurvey)
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
	for pause := pollSoon; ; pause = min(2*pause, poll.every) {
		timer := time.NewTimer(min(pause, poll.every))
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
		settled, err := poll.look(ctx)
		if err != nil {
			return err
		}
		n.observe(settled, changed) // closes changed if the position moved
	}
}
