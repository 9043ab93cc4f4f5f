package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

const (
	writers          = 4
	eventsPerWriter  = 250
	streamsPerWriter = 3
	rollBackEvery    = 5 // one append in so many is rolled back
	catchUpTimeout   = 30 * time.Second
)

// showLive follows the log while writers append to it, some of them in transactions that are rolled back, and compares.
func showLive(ctx context.Context, page *page, log *demoLog, id eventstore.StreamID) error {
	page.section(fmt.Sprintf("4. A follower while %d writers append", writers), "store.Follow(ctx, after, filter)")
	texts, err := turnsOf(ctx, log.store, id)
	if err != nil {
		return err
	}
	after, err := log.store.Settled(ctx)
	if err != nil {
		return err
	}
	live := &live{log: log, texts: texts, began: map[uuid.UUID]time.Time{}}
	began := time.Now()
	following, stop := context.WithCancel(ctx)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return live.follow(following, after) })
	group.Go(func() error {
		defer stop()
		if err := live.write(ctx); err != nil {
			return err
		}
		return live.catchUp(ctx)
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("following the log: %w", err)
	}
	return live.compare().show(page, time.Since(began))
}

// turnsOf are turns of a discussion for the writers to repeat.
func turnsOf(ctx context.Context, store *eventstore.Store, id eventstore.StreamID) ([]focusgroup.Turn, error) {
	var turns []focusgroup.Turn
	for event, err := range store.Stream(ctx, id, 0) {
		if err != nil {
			return nil, fmt.Errorf("reading turns: %w", err)
		}
		switch e := event.Data.(type) {
		case focusgroup.Response:
			turns = append(turns, focusgroup.Turn(e))
		case focusgroup.Followup:
			turns = append(turns, focusgroup.Turn(e))
		}
		if len(turns) == eventsPerWriter {
			break
		}
	}
	if len(turns) == 0 {
		turns = []focusgroup.Turn{{Text: "Good morning, everybody."}}
	}
	return turns, nil
}

// live is what writers did and what the follower saw.
type live struct {
	log   *demoLog
	texts []focusgroup.Turn

	mu         sync.Mutex
	began      map[uuid.UUID]time.Time // when the append of each event was called
	committed  []uuid.UUID
	rolledBack []uuid.UUID
	seen       []sighting
}

type sighting struct {
	id       uuid.UUID
	position eventstore.Position
	delay    time.Duration
}

// follow notes what comes until its context ends, which is how it is told to stop.
func (l *live) follow(ctx context.Context, after eventstore.Position) error {
	for event, err := range l.log.store.Follow(ctx, after, eventstore.Filter{}) {
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		now := time.Now()
		l.mu.Lock()
		l.seen = append(l.seen, sighting{event.ID, event.Position, now.Sub(l.began[event.ID])})
		l.mu.Unlock()
	}
	return nil
}

// write runs the writers to their end.
func (l *live) write(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for writer := range writers {
		group.Go(func() error { return l.writeOne(ctx, writer) })
	}
	return group.Wait()
}

func (l *live) writeOne(ctx context.Context, writer int) error {
	var streams [streamsPerWriter]struct {
		id   eventstore.StreamID
		head eventstore.Version
	}
	for i := range streams {
		streams[i].id = focusgroup.NewDiscussionID()
	}
	for i := range eventsPerWriter {
		stream := &streams[i%streamsPerWriter]
		event := eventstore.Event{ID: uuid.Must(uuid.NewV7()), Data: l.payload(stream.head, writer*eventsPerWriter+i)}
		l.note(func() { l.began[event.ID] = time.Now() })
		expected := eventstore.AtVersion(stream.head) // another writer in between would be a conflict
		if i%rollBackEvery == rollBackEvery-1 {
			if err := l.appendAndRollBack(ctx, stream.id, expected, event); err != nil {
				return err
			}
			l.note(func() { l.rolledBack = append(l.rolledBack, event.ID) })
			continue
		}
		receipt, err := l.log.store.Append(ctx, stream.id, expected, event)
		if err != nil {
			return err
		}
		stream.head = receipt.Version
		l.note(func() { l.committed = append(l.committed, event.ID) })
	}
	return nil
}

func (l *live) note(what func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what()
}

// payload begins a stream that has no events, and otherwise repeats a turn.
func (l *live) payload(head eventstore.Version, i int) any {
	if head == 0 {
		return focusgroup.DiscussionStarted{ProjectID: "live", Title: "Live"}
	}
	turn := l.texts[i%len(l.texts)]
	turn.ProjectID, turn.ReplyTo = "live", 0
	if i%2 == 0 {
		return focusgroup.Response(turn)
	}
	return focusgroup.Followup(turn)
}

// appendAndRollBack appends in a transaction of its own that then thinks better of it.
func (l *live) appendAndRollBack(ctx context.Context, id eventstore.StreamID, expected eventstore.Expected, event eventstore.Event) error {
	errSecondThoughts := errors.New("second thoughts")
	err := pgx.BeginFunc(ctx, l.log.pool, func(tx pgx.Tx) error {
		if _, err := l.log.store.WithTx(tx).Append(ctx, id, expected, event); err != nil {
			return err
		}
		return errSecondThoughts
	})
	if errors.Is(err, errSecondThoughts) {
		return nil
	}
	return err
}

// catchUp waits until the follower has seen as many events as were committed. Whether they are the right ones is for
// compare to say; so is a follower that never gets there.
func (l *live) catchUp(ctx context.Context) error {
	deadline := time.After(catchUpTimeout)
	for {
		var behind int
		l.note(func() { behind = len(l.committed) - len(l.seen) })
		if behind <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return nil
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// verdict is what the follower saw beside what was written.
type verdict struct {
	seen, committed, rolledBack int
	disorder                    int // events below one that was seen before
	doubled, skipped, phantoms  int
	median, p99                 time.Duration
	first, last                 eventstore.Position
}

func (l *live) compare() verdict {
	v := verdict{seen: len(l.seen), committed: len(l.committed), rolledBack: len(l.rolledBack)}
	times := map[uuid.UUID]int{}
	delays := make([]time.Duration, 0, len(l.seen))
	for _, s := range l.seen {
		if s.position <= v.last {
			v.disorder++
		}
		if v.last = max(v.last, s.position); v.first == 0 {
			v.first = s.position
		}
		if times[s.id]++; times[s.id] > 1 {
			v.doubled++
		}
		delays = append(delays, s.delay)
	}
	for _, id := range l.committed {
		if times[id] == 0 {
			v.skipped++
		}
	}
	for _, id := range l.rolledBack {
		if times[id] > 0 {
			v.phantoms++
		}
	}
	slices.Sort(delays)
	if n := len(delays); n > 0 {
		v.median, v.p99 = delays[n/2], delays[n*99/100]
	}
	return v
}

// show prints the verdict; one that breaks the log's promise is an error too.
func (v verdict) show(page *page, took time.Duration) error {
	page.line("Appended %s by %d writers to %d new discussions, %s more in transactions that rolled back, in %.2f s",
		plural(v.committed, "event"), writers, writers*streamsPerWriter, thousands(v.rolledBack), took.Seconds())
	page.line("Seen     %s at positions %d to %d; the gaps are what rolled back", plural(v.seen, "event"), v.first, v.last)
	page.line("In order: %s. Skipped: %s. Doubled: %s. Seen though rolled back: %s.",
		map[bool]string{true: "yes", false: "no"}[v.disorder == 0], none(v.skipped), none(v.doubled), none(v.phantoms))
	page.line("From the call of Append to the follower: median %s, 99 %% within %s", millis(v.median), millis(v.p99))
	if v.disorder+v.skipped+v.doubled+v.phantoms > 0 {
		return errors.New("the follower saw another log than the one written")
	}
	return nil
}

func none(n int) string {
	if n == 0 {
		return "none"
	}
	return thousands(n)
}

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
