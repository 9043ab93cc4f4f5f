package replay

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/snapshot"
)

// Step is one event of a replay.
type Step[S any] struct {
	Event eventstore.Recorded
	// State is that of the event's stream after it. It is the player's: read it before the next step, and do not change it.
	State S
	// Number of the step: 1, 2, 3 … up to [Player.Len].
	Number int
	// At is when the step plays, in the discussion's time: the event's OccurredAt, or its predecessor's where that is later.
	At time.Time

	before, after []byte
}

// Changes returns what the event changed in the state of its stream; none without a fold. It may be called at any time.
func (s Step[S]) Changes() ([]snapshot.Change, error) { return snapshot.DiffJSON(s.before, s.after) }

// Player plays events again. Make one with [Open]; it holds nothing that needs closing.
type Player[S any] struct {
	config Config[S]
	pace   *pace

	moving chan struct{} // holds a token while somebody moves the player: what follows belongs to them
	track  *track
	states []state[S] // one a source; nil without a fold
	taken  int        // the player stands after this many steps
}

// Open makes a player of one stream, or of several interleaved by time, that stands before the first step. Errors match
// [eventstore.ErrInvalid], or [eventstore.ErrStreamNotFound] for a stream without events.
func Open[S any](ctx context.Context, store *eventstore.Store, config Config[S], ids ...eventstore.StreamID) (*Player[S], error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, invalid("ids", "name no stream")
	}
	sorted := slices.Sorted(slices.Values(ids))
	if len(slices.Compact(sorted)) < len(ids) {
		return nil, invalid("ids", "name a stream twice")
	}
	p := &Player[S]{config: config, pace: newPace(config.Clock, config.Speed), moving: make(chan struct{}, 1), track: &track{store: store}}
	for _, id := range ids {
		if err := p.track.add(ctx, id); err != nil {
			return nil, fmt.Errorf("opening a replay: %w", err)
		}
	}
	p.track.index = make([]entry, 0, p.track.total)
	p.track.feed = newFeed(p.track)
	if config.Fold.Apply != nil {
		p.states = make([]state[S], len(ids))
	}
	return p, nil
}

// Len is how many steps there are.
func (p *Player[S]) Len() int { return p.track.total }

// Next takes the next step. At the end its error matches [ErrEnd]; otherwise it is that of reading, of Fold.Apply or of ctx, and
// the player stands where it stood.
func (p *Player[S]) Next(ctx context.Context) (Step[S], error) {
	return p.move(ctx, func() (int, error) { return p.taken, nil })
}

// Back undoes the last step and returns the one before it, after which the player then stands. Where there is none it stands
// before the first step, and the error matches [ErrStart].
func (p *Player[S]) Back(ctx context.Context) (Step[S], error) {
	return p.move(ctx, func() (int, error) { return p.taken - 2, nil })
}

// Rewind goes before the first step.
func (p *Player[S]) Rewind(ctx context.Context) error {
	if err := p.lock(ctx); err != nil {
		return err
	}
	defer p.unlock()
	p.taken = 0
	p.pace.stand(time.Time{})
	return nil
}

// SeekVersion goes to the step of an event and returns it. The error matches [ErrNoStep] if the player has no such event.
func (p *Player[S]) SeekVersion(ctx context.Context, id eventstore.StreamID, version eventstore.Version) (Step[S], error) {
	step, err := p.move(ctx, func() (int, error) { return p.track.find(ctx, id, version) })
	if err != nil {
		return step, fmt.Errorf("seeking version %d of %s: %w", version, id, err)
	}
	return step, nil
}

// SeekTime goes to a time of the discussion, after every step up to it, and returns the last of them. Playing goes on from that
// time: the next step comes when it is due. Before the first step the player is rewound, and the error matches [ErrStart].
func (p *Player[S]) SeekTime(ctx context.Context, t time.Time) (Step[S], error) {
	if err := p.lock(ctx); err != nil {
		return Step[S]{}, err
	}
	defer p.unlock()
	k, err := p.track.until(ctx, t.UnixMicro())
	var step Step[S]
	if err == nil {
		step, err = p.goTo(ctx, k)
	}
	if err != nil {
		return step, fmt.Errorf("seeking %s: %w", t.UTC().Format(time.RFC3339Nano), err)
	}
	p.pace.stand(t)
	return step, nil
}

// SeekQuestion goes to the first step on a question, by Config.Question, and returns it. The error matches [ErrNoStep] if there
// is none. It reads the events up to that step.
func (p *Player[S]) SeekQuestion(ctx context.Context, question string) (Step[S], error) {
	if question == "" {
		return Step[S]{}, invalid("question", "is empty")
	}
	step, err := p.move(ctx, func() (int, error) { return p.findQuestion(ctx, question) })
	if err != nil {
		return step, fmt.Errorf("seeking the question %q: %w", question, err)
	}
	return step, nil
}

func (p *Player[S]) findQuestion(ctx context.Context, question string) (int, error) {
	for k := range p.track.total {
		s, version, err := p.track.step(ctx, k)
		if err != nil {
			return 0, err
		}
		event, err := p.track.event(ctx, s, version)
		if err != nil {
			return 0, err
		}
		if p.config.Question(*event) == question {
			return k, nil
		}
		s.passed(version)
	}
	return 0, ErrNoStep
}

func (p *Player[S]) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select { // at once, nearly always
	case p.moving <- struct{}{}:
		return nil
	default:
	}
	select {
	case p.moving <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Player[S]) unlock() { <-p.moving }

// move goes to the step that find chooses.
func (p *Player[S]) move(ctx context.Context, find func() (int, error)) (Step[S], error) {
	if err := p.lock(ctx); err != nil {
		return Step[S]{}, err
	}
	defer p.unlock()
	k, err := find()
	if err != nil {
		return Step[S]{}, err
	}
	return p.goTo(ctx, k)
}

// goTo takes step k, from 0, or goes before the first one if k is negative. Playing goes on from its time.
func (p *Player[S]) goTo(ctx context.Context, k int) (Step[S], error) {
	if k < 0 {
		p.taken = 0
		p.pace.stand(time.Time{})
		return Step[S]{}, ErrStart
	}
	var step Step[S]
	if err := p.take(ctx, k, &step); err != nil {
		return Step[S]{}, err
	}
	p.pace.stand(step.At)
	return step, nil
}

// take makes step k, after which the player then stands.
func (p *Player[S]) take(ctx context.Context, k int, step *Step[S]) error {
	s, version, err := p.track.step(ctx, k)
	if err != nil {
		return err
	}
	var st *state[S]
	if p.states != nil {
		if st, err = p.foldTo(ctx, s, version-1); err != nil {
			return err
		}
		if step.before, err = st.encode(); err != nil {
			return err
		}
	}
	event, err := p.track.event(ctx, s, version)
	if err != nil {
		return err
	}
	step.Event, step.Number, step.At = *event, k+1, p.track.at(k)
	if st != nil {
		if err = st.apply(p.config.Fold, *event); err != nil {
			return err
		}
		if step.after, err = st.encode(); err != nil {
			return err
		}
		step.State = st.live
	}
	s.passed(version)
	p.taken = k + 1
	return nil
}
