package replay

import (
	"context"
	"fmt"
	"iter"
	"time"
)

// Play takes the steps from where the player stands to the end, each when it is due, and calls handle with it. A handler that
// takes longer than there is time delays only what falls due meanwhile. The error is [ErrBreak] after a breakpoint, that of
// the handler, of reading, of Fold.Apply, or of ctx. The player then stands after the last step that was handled, or
// whose handler failed, and Play goes on from there.
func (p *Player[S]) Play(ctx context.Context, handle func(context.Context, Step[S]) error) error {
	for step, err := range p.Steps(ctx) {
		if err != nil {
			return err
		}
		if err := handle(ctx, step); err != nil {
			return fmt.Errorf("replaying %s version %d (%s): %w", step.Event.StreamID, step.Event.Version, step.Event.Type, err)
		}
	}
	return nil
}

// Steps is [Player.Play] as a loop. An error, [ErrBreak] among them, comes last and once.
func (p *Player[S]) Steps(ctx context.Context) iter.Seq2[Step[S], error] {
	return func(yield func(Step[S], error) bool) {
		p.pace.begin()
		defer p.readAhead(ctx)()
		report := reporter{tell: p.config.Progress, clock: p.config.Clock, progress: Progress{Total: p.Len()}}
		report.begin()
		defer report.end()
		for {
			var step Step[S]
			more, err := p.due(ctx, &step)
			if err != nil {
				yield(Step[S]{}, err)
				return
			}
			if !more {
				return
			}
			broken := p.config.Break != nil && p.config.Break(step)
			if !yield(step, nil) {
				return
			}
			report.done(step.Number)
			if broken {
				yield(Step[S]{}, ErrBreak)
				return
			}
		}
	}
}

// readAhead has the log read ahead of a player that plays as fast as it can, until stop is called.
func (p *Player[S]) readAhead(ctx context.Context) (stop func()) {
	feed := p.track.feed
	if feed == nil || p.config.Speed > 0 || p.lock(ctx) != nil {
		return func() {}
	}
	defer p.unlock()
	if feed.off || len(p.track.index) == p.track.total {
		return func() {}
	}
	return feed.start(ctx)
}

// Pause stops playing before the next step, and the time of the discussion; until Resume, Play waits. The player can be moved
// meanwhile.
func (p *Player[S]) Pause() { p.pace.pause() }

// Resume goes on after Pause: each later step is late by as long as the pause was.
func (p *Player[S]) Resume() { p.pace.resume() }

// due waits for the next step and takes it; more is false at the end.
func (p *Player[S]) due(ctx context.Context, step *Step[S]) (more bool, err error) {
	for {
		left, changed, err := p.takeDue(ctx, step)
		if err != nil || left <= 0 {
			return left == 0, err
		}
		if err := p.pace.wait(ctx, left, changed); err != nil {
			return false, err
		}
	}
}

// takeDue takes the next step if it is due; else it says how long to wait, unless changed closes before. Less than 0 is the
// end.
func (p *Player[S]) takeDue(ctx context.Context, step *Step[S]) (left time.Duration, changed <-chan struct{}, err error) {
	if err := p.lock(ctx); err != nil {
		return 0, nil, err
	}
	defer p.unlock()
	if p.taken == p.track.total {
		return -1, nil, nil
	}
	if _, _, err := p.track.step(ctx, p.taken); err != nil {
		return 0, nil, err
	}
	at := p.track.at(p.taken)
	if left, changed = p.pace.left(at); left > 0 {
		return left, changed, nil
	}
	if err := p.take(ctx, p.taken, step); err != nil {
		return 0, nil, err
	}
	p.pace.played(at)
	return 0, nil, nil
}

// reportEvery is how often progress is told.
const reportEvery = 100 * time.Millisecond

// reporter tells progress, not too often, and nothing twice.
type reporter struct {
	tell        func(Progress)
	clock       Clock
	progress    Progress
	began, told time.Time
	pending     bool
}

func (r *reporter) begin() {
	if r.tell != nil {
		r.began = r.clock.Now()
		r.told = r.began
	}
}

func (r *reporter) done(steps int) {
	if r.tell == nil {
		return
	}
	r.progress.Done, r.pending = steps, true
	if now := r.clock.Now(); now.Sub(r.told) >= reportEvery {
		r.told = now
		r.end()
	}
}

func (r *reporter) end() {
	if r.pending {
		r.pending = false
		r.progress.Elapsed = r.clock.Now().Sub(r.began)
		r.tell(r.progress)
	}
}
