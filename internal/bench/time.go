package main

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/snapshot"
)

func timeBenchmarks() []benchmark {
	return []benchmark{
		{"snapshot.load10k", millis, target{ratioAtMost, 1.3}, snapshotLoad},
		{"snapshot.load10k.small", millis, target{}, snapshotSmall},
		{"snapshot.zero10k", millis, target{ratioAtLeast, 20}, snapshotZero},
		{"timetravel.asof", millis, target{ratioAtMost, 3}, timeTravel(byVersion, byPosition, byRecorded)},
		{"timetravel.occurred", millis, target{ratioAtMost, 3}, timeTravel(byOccurred)},
	}
}

// timed is what the rows of this file share: long streams with their snapshots, and short ones.
type timed struct {
	store  *eventstore.Store
	loader *snapshot.Loader[*focusgroup.Discussion]
	long   []eventstore.StreamID
	size   scale

	shortStore *eventstore.Store
	short      []eventstore.StreamID
}

func discussionFold(version int) snapshot.Fold[*focusgroup.Discussion] {
	return snapshot.Fold[*focusgroup.Discussion]{
		Name: "discussion", Version: version,
		New: func(eventstore.StreamID) *focusgroup.Discussion { return &focusgroup.Discussion{} },
		Apply: func(d *focusgroup.Discussion, e eventstore.Recorded) (*focusgroup.Discussion, error) {
			return d, d.Apply(e)
		},
	}
}

func newTimed(ctx context.Context, w *world, pool *pgxpool.Pool) (*timed, error) {
	short, err := logToRead(ctx, w)
	if err != nil {
		return nil, err
	}
	long, err := w.filledLog(ctx, "time", filling{months: 1, events: abreast * w.size.longEvents, length: w.size.longEvents})
	if err != nil {
		return nil, err
	}
	t := &timed{long: long.streams, short: pick(short.streams, 200), size: w.size}
	if t.shortStore, err = short.store(pool, focusgroup.Codec()); err != nil {
		return nil, err
	}
	if t.store, err = long.store(pool, focusgroup.Codec()); err != nil {
		return nil, err
	}
	if err := snapshot.Migrate(ctx, t.store); err != nil {
		return nil, err
	}
	if t.loader, err = snapshot.NewLoader(t.store, discussionFold(1), snapshot.Config{Every: w.size.longEvery, Keep: 1000}); err != nil {
		return nil, err
	}
	for _, id := range t.long {
		if _, err := t.loader.Load(ctx, id); err != nil {
			return nil, err
		}
	}
	return t, long.tidy(ctx, long.schema+".snapshots")
}

// loadShort folds a stream of a hundred events, the shortest way.
func (t *timed) loadShort(ctx context.Context, i int) error {
	found, err := focusgroup.Load(ctx, t.shortStore, t.short[i%len(t.short)])
	if err == nil {
		err = wholeStream(int(found.Version), t.size.streamEvents, nil)
	}
	return err
}

func (t *timed) loadLong(ctx context.Context, i int) error {
	found, err := t.loader.Load(ctx, t.long[i%len(t.long)])
	if err == nil && found.Snapshot == 0 {
		err = fmt.Errorf("%s: no snapshot was used", t.long[i%len(t.long)])
	}
	return wholeStream(int(found.Version), t.size.longEvents, err)
}

// timing compares two ways to load.
func timing(ctx context.Context, w *world, sides func(*timed) (ours, raw sample), note string) (figures, error) {
	pool, err := w.pool(ctx, 2)
	if err != nil {
		return figures{}, err
	}
	defer pool.Close()
	t, err := newTimed(ctx, w, pool)
	if err != nil {
		return figures{}, err
	}
	ours, raw := sides(t)
	f, err := interleave(ctx, w.size.rounds, ours, raw)
	f.note = note
	return f, err
}

func snapshotLoad(ctx context.Context, w *world) (figures, error) {
	return timing(ctx, w, func(t *timed) (ours, raw sample) {
		return latency(w.size.streamReads, t.loadLong), latency(w.size.streamReads, t.loadShort)
	}, fmt.Sprintf("p50 of a stream of %d events, a snapshot every %d; beside it a fold of %d events", w.size.longEvents, w.size.longEvery, w.size.streamEvents))
}

// snapshotSmall is the same for a state that does not grow with its stream: a discussion's holds who spoke, turn by turn.
func snapshotSmall(ctx context.Context, w *world) (figures, error) {
	return timing(ctx, w, func(t *timed) (ours, raw sample) {
		loader, err := snapshot.NewLoader(t.store, snapshot.Fold[int]{
			Name: "turns", Version: 1, New: func(eventstore.StreamID) int { return 0 },
			Apply: func(n int, _ eventstore.Recorded) (int, error) { return n + 1, nil },
		}, snapshot.Config{Every: w.size.longEvery, Keep: 1000})
		small := func(ctx context.Context, i int) error {
			if err != nil {
				return err
			}
			found, err := loader.Load(ctx, t.long[i%len(t.long)])
			return wholeStream(found.State, w.size.longEvents, err)
		}
		short := func(ctx context.Context, i int) error {
			n := 0
			for _, err := range t.shortStore.Stream(ctx, t.short[i%len(t.short)], 0) {
				if err != nil {
					return err
				}
				n++
			}
			return wholeStream(n, w.size.streamEvents, nil)
		}
		return latency(w.size.streamReads, small), latency(w.size.streamReads, short)
	}, "the same with a state that does not grow")
}

func snapshotZero(ctx context.Context, w *world) (figures, error) {
	return timing(ctx, w, func(t *timed) (ours, raw sample) {
		zero := func(ctx context.Context, i int) error {
			found, err := focusgroup.Load(ctx, t.store, t.long[i%len(t.long)])
			if err == nil {
				err = wholeStream(int(found.Version), w.size.longEvents, nil)
			}
			return err
		}
		return latency(3, zero), latency(w.size.streamReads, t.loadLong)
	}, "p50 of a fold from zero; beside it the load with a snapshot")
}

// asOfKinds are what can be asked for.
const (
	byVersion = iota
	byPosition
	byRecorded
	byOccurred
)

// timeTravel asks for random versions, positions or times, and counts the slowest of some kinds.
func timeTravel(kinds ...int) measurement {
	return func(ctx context.Context, w *world) (figures, error) { return timeTravelBy(ctx, w, kinds) }
}

func timeTravelBy(ctx context.Context, w *world, kinds []int) (figures, error) {
	return timing(ctx, w, func(t *timed) (ours, raw sample) {
		random := rand.New(rand.NewPCG(1, 2))
		var events []eventstore.Recorded
		asOf := func(ctx context.Context, kind int) error {
			if events == nil {
				for e, err := range t.store.Stream(ctx, t.long[0], 0) {
					if err != nil {
						return err
					}
					events = append(events, e)
				}
			}
			e := events[random.IntN(len(events))]
			at := []snapshot.At{{Version: e.Version}, {Position: e.Position}, {Recorded: e.RecordedAt}, {Occurred: e.OccurredAt}}[kind]
			found, err := t.loader.AsOf(ctx, t.long[0], at)
			return wholeStream(int(found.Version), int(e.Version), err)
		}
		slowest := func(ctx context.Context) (worst float64, err error) {
			for _, kind := range kinds {
				took, err := latency(max(1, w.size.streamReads/len(kinds)), func(ctx context.Context, _ int) error { return asOf(ctx, kind) })(ctx)
				if err != nil {
					return 0, err
				}
				worst = max(worst, took)
			}
			return worst, nil
		}
		return slowest, latency(w.size.streamReads, t.loadShort)
	}, "p50 of the slowest kind; beside it a fold of a short stream")
}
