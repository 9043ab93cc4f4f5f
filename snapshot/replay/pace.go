package replay

import (
	"context"
	"math"
	"sync"
	"time"
)

// pace says when a step is due. The discussion's time goes from zero at the clock's time from, speed times as fast, and stands
// still while it is paused.
type pace struct {
	clock Clock
	speed float64 // 0: everything is due

	mu         sync.Mutex
	stood      time.Time // the discussion's time where the player stands; zero before the first step
	zero, from time.Time
	paused     bool
	since      time.Time // when it was paused
	changed    chan struct{}
}

func newPace(clock Clock, speed float64) *pace {
	return &pace{clock: clock, speed: speed, changed: make(chan struct{})}
}

// begin starts the discussion's time where the player stands.
func (p *pace) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.restart(p.stood)
}

// stand notes that the player was moved, and wakes whoever waits for what is no longer the next step.
func (p *pace) stand(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.restart(at)
	p.wake()
}

func (p *pace) restart(at time.Time) {
	p.stood, p.zero, p.from = at, at, p.clock.Now()
	if p.paused {
		p.from = p.since
	}
}

func (p *pace) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// played notes that the player has gone on to the next step in its own time.
func (p *pace) played(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stood = at
}

func (p *pace) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.paused {
		p.paused, p.since = true, p.clock.Now()
		p.wake()
	}
}

func (p *pace) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused {
		p.paused, p.from = false, p.from.Add(p.clock.Now().Sub(p.since))
		p.wake()
	}
}

// forever is what there is to wait for in a pause.
const forever = time.Duration(math.MaxInt64)

// left is how long to wait for a time of the discussion, unless changed closes before.
func (p *pace) left(at time.Time) (time.Duration, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.paused:
		return forever, p.changed
	case p.speed == 0:
		return 0, p.changed
	case p.zero.IsZero(): // nothing was played yet: the first step is due at once
		p.zero, p.from = at, p.clock.Now()
	}
	after := min(float64(at.Sub(p.zero))/p.speed, math.MaxInt64/2) // 146 years
	return p.from.Add(time.Duration(after)).Sub(p.clock.Now()), p.changed
}

func (p *pace) wait(ctx context.Context, left time.Duration, changed <-chan struct{}) error {
	var due <-chan time.Time // never, in a pause
	if left != forever {
		timer, release := p.clock.Timer(left)
		defer release()
		due = timer
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changed:
	case <-due:
	}
	return nil
}
