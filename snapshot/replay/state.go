package replay

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/snapshot"
)

// keepEvery is after how many events of a stream its state is kept: a step back folds that many at most.
const keepEvery = 100

// state of a stream. Apply may change the one it is given, so those before it are kept as JSON.
type state[S any] struct {
	live    S
	valid   bool               // an Apply that failed may have left anything behind
	version eventstore.Version // of live
	json    []byte             // of live; nil if it was not asked for
	kept    [][]byte           // after keepEvery events, twice as many, …
}

// foldTo brings the state of a stream to a version, from the nearest one there is before it.
func (p *Player[S]) foldTo(ctx context.Context, s *source, version eventstore.Version) (*state[S], error) {
	st := &p.states[s.place]
	n := min(int(version)/keepEvery, len(st.kept))
	from := eventstore.Version(n * keepEvery)
	if !st.valid || st.version > version || st.version < from {
		*st = state[S]{kept: st.kept, version: from}
		if n == 0 {
			st.live = p.config.Fold.New(s.id)
		} else if err := json.Unmarshal(st.kept[n-1], &st.live); err != nil { // not into New's: what it puts in need not stay
			return nil, fmt.Errorf("decoding the state of %s version %d: %w", s.id, from, err)
		}
		st.valid = true
	}
	for st.version < version {
		event, err := p.track.event(ctx, s, st.version+1)
		if err == nil {
			err = st.apply(p.config.Fold, *event)
		}
		if err != nil {
			return nil, err
		}
	}
	return st, nil
}

func (st *state[S]) apply(fold snapshot.Fold[S], event eventstore.Recorded) (err error) {
	st.valid, st.json = false, nil
	if st.live, err = fold.Apply(st.live, event); err != nil {
		return fmt.Errorf("applying %s version %d (%s): %w", event.StreamID, event.Version, event.Type, err)
	}
	st.valid, st.version = true, event.Version
	if int(st.version) == (len(st.kept)+1)*keepEvery {
		data, err := st.encode()
		if err != nil {
			return err
		}
		st.kept = append(st.kept, data)
	}
	return nil
}

// encode is the state as JSON, whose bytes are not written to again.
func (st *state[S]) encode() ([]byte, error) {
	if st.json == nil {
		data, err := json.Marshal(st.live)
		if err != nil {
			return nil, fmt.Errorf("encoding the state of version %d: %w", st.version, err)
		}
		st.json = data
	}
	return st.json, nil
}
