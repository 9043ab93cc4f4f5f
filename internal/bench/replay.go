package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/snapshot/replay"
)

func replayBenchmarks() []benchmark {
	return []benchmark{
		{"replay.max", perSecond, target{ratioAtLeast, 0.9}, replayMax},
		{"replay.late.1x", millis, target{}, replayLate(1)},
		{"replay.late.10x", millis, target{}, replayLate(10)},
	}
}

// rawStore is a store without a codec, with a pool of its own.
func rawStore(ctx context.Context, w *world, t *twin) (store *eventstore.Store, closePool func(), err error) {
	pool, err := w.pool(ctx, 2)
	if err != nil {
		return nil, nil, err
	}
	if store, err = t.store(pool, nil); err != nil {
		pool.Close()
		return nil, nil, err
	}
	return store, pool.Close, nil
}

// stateless is a player of events alone.
type stateless = replay.Config[struct{}]

// replayMax plays every stream of a log, interleaved by time, beside the same events read in the log's order.
func replayMax(ctx context.Context, w *world) (figures, error) {
	log, err := logToRead(ctx, w)
	if err != nil {
		return figures{}, err
	}
	store, closePool, err := rawStore(ctx, w, log.twin)
	if err != nil {
		return figures{}, err
	}
	defer closePool()
	ours := func(ctx context.Context) (float64, error) {
		player, err := replay.Open(ctx, store, stateless{}, log.streams...)
		if err != nil {
			return 0, err
		}
		return scanRate(w.size.readEvents, func(ctx context.Context, count func()) error {
			return player.Play(ctx, func(context.Context, replay.Step[struct{}]) error {
				count()
				return nil
			})
		})(ctx)
	}
	all := scanRate(w.size.readEvents, func(ctx context.Context, count func()) error {
		for _, err := range store.All(ctx, 0, eventstore.Filter{}) {
			if err != nil {
				return err
			}
			count()
		}
		return nil
	})
	f, err := interleave(ctx, w.size.rounds, ours, all)
	f.note = fmt.Sprintf("%d streams interleaved; beside it Store.All", len(log.streams))
	return f, err
}

// replayLate is the p99 of how late a step of paced replay is, beside a loop that sleeps until the same times.
func replayLate(speed float64) measurement {
	return func(ctx context.Context, w *world) (figures, error) {
		t, err := w.newTwin(ctx, fmt.Sprintf("replay_%g", speed))
		if err != nil {
			return figures{}, err
		}
		store, closePool, err := rawStore(ctx, w, t)
		if err != nil {
			return figures{}, err
		}
		defer closePool()
		due := pacedTimes(w, speed)
		if err := appendPaced(ctx, store, due, speed); err != nil {
			return figures{}, err
		}
		ours, err := lateReplay(ctx, store, due, speed)
		if err != nil {
			return figures{}, err
		}
		raw, err := lateSleep(ctx, due)
		if err != nil {
			return figures{}, err
		}
		return figures{
			ours: percentile(ours, 99), raw: percentile(raw, 99),
			note: fmt.Sprintf("p99 of %d steps; median %.2f ms; beside it a loop that sleeps, median %.2f ms", len(ours), median(ours), median(raw)),
		}, nil
	}
}

// pacedTimes are when steps are due after the start, in real time.
func pacedTimes(w *world, speed float64) []time.Duration {
	random := rand.New(rand.NewPCG(5, 6))
	var due []time.Duration
	for at := time.Duration(0); at < w.size.loadRound; {
		due = append(due, at)
		at += time.Duration((0.2 + random.ExpFloat64()) * 0.1 * float64(time.Second) / speed)
	}
	return due
}

const pacedStream = eventstore.StreamID("paced-1")

func appendPaced(ctx context.Context, store *eventstore.Store, due []time.Duration, speed float64) error {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	events := make([]any, len(due))
	for i, at := range due {
		events[i] = eventstore.Event{
			Data: eventstore.Raw{Type: "turn", JSON: []byte(`{}`)}, OccurredAt: start.Add(time.Duration(float64(at) * speed)),
		}
	}
	for from := 0; from < len(events); from += 100 {
		if _, err := store.Append(ctx, pacedStream, eventstore.Any, events[from:min(from+100, len(events))]...); err != nil {
			return err
		}
	}
	return nil
}

func lateReplay(ctx context.Context, store *eventstore.Store, due []time.Duration, speed float64) ([]float64, error) {
	player, err := replay.Open(ctx, store, stateless{Speed: speed}, pacedStream)
	if err != nil {
		return nil, err
	}
	var late []float64
	started := time.Now()
	err = player.Play(ctx, func(_ context.Context, step replay.Step[struct{}]) error {
		now := time.Now()
		if step.Number == 1 {
			started = now
		}
		late = append(late, inMillis(max(now.Sub(started)-due[step.Number-1], time.Microsecond)))
		return nil
	})
	if err == nil && len(late) != len(due) {
		err = fmt.Errorf("%d steps of %d", len(late), len(due))
	}
	return late, err
}

func lateSleep(ctx context.Context, due []time.Duration) ([]float64, error) {
	late := make([]float64, len(due))
	started := time.Now()
	for i, at := range due {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(at - time.Since(started)):
		}
		late[i] = inMillis(max(time.Since(started)-at, time.Microsecond))
	}
	return late, nil
}
