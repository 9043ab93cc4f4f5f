package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

func followBenchmarks() []benchmark {
	return []benchmark{
		{"follow.latency.load", millis, target{valueAtMost, 50}, followLoad},
		{"follow.latency.idle", millis, target{valueAtMost, 120}, followIdle},
		{"follow.poll", millis, target{}, followPoll},
		{"follow.poll.locks5000", millis, target{}, followPollLocks},
	}
}

// followLoad is the p99 of the time from an acknowledged commit to the delivery in another process, while many append.
func followLoad(ctx context.Context, w *world) (figures, error) {
	n := int(w.size.loadRound.Seconds() * float64(w.size.loadRate))
	due := make([]time.Duration, n)
	for i := range due {
		due[i] = time.Duration(i) * time.Second / time.Duration(w.size.loadRate)
	}
	return followed(ctx, w, "follow.latency.load", 16, func(ctx context.Context, ours, raw *followedSide) error {
		for round := range w.size.loadRounds {
			order := []*followedSide{ours, raw}
			for i := range order {
				if err := order[(round+i)%2].round(ctx, due); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// followIdle is the same with a pause before each append. Both sides are measured at once: they hardly meet.
func followIdle(ctx context.Context, w *world) (figures, error) {
	random := rand.New(rand.NewPCG(3, 4))
	due := make([]time.Duration, w.size.idle)
	at := time.Duration(0)
	for i := range due {
		at += time.Duration((0.6 + 0.8*random.Float64()) * float64(w.size.idleGap))
		due[i] = at
	}
	return followed(ctx, w, "follow.latency.idle", 1, func(ctx context.Context, ours, raw *followedSide) error {
		sides, ctx := errgroup.WithContext(ctx)
		sides.Go(func() error { return ours.round(ctx, due) })
		sides.Go(func() error { return raw.round(ctx, due) })
		return sides.Wait()
	})
}

// followed prepares writers, keeps a stranger's transaction open, and gathers what the rounds of both sides found.
func followed(ctx context.Context, w *world, name string, callers int,
	rounds func(ctx context.Context, ours, raw *followedSide) error,
) (figures, error) {
	t, err := w.newTwin(ctx, name)
	if err != nil {
		return figures{}, err
	}
	ours, raw, closePools, err := appendLoad{callers: callers, batch: 1}.writers(ctx, t)
	if err != nil {
		return figures{}, err
	}
	defer closePools()
	foreign, err := w.admin.Begin(ctx)
	if err != nil {
		return figures{}, err
	}
	defer func() { _ = foreign.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := foreign.Exec(ctx, `CREATE TABLE `+t.schema+`.unrelated AS SELECT 1 AS written`); err != nil {
		return figures{}, fmt.Errorf("opening an unrelated transaction: %w", err)
	}
	spec := followerSpec{URL: w.cluster.URL()}
	oursSide := &followedSide{writers: ours, spec: spec}
	oursSide.spec.Schema = t.schema
	rawSide := &followedSide{writers: raw, spec: spec}
	rawSide.spec.Schema, rawSide.spec.Raw = t.raw.schema, true
	if err := rounds(ctx, oursSide, rawSide); err != nil {
		return figures{}, err
	}
	if oursSide.skipped > 0 {
		return figures{}, fmt.Errorf("the follower was not given %d of %d events", oursSide.skipped, oursSide.appended)
	}
	return figures{
		ours: percentile(oursSide.latencies, 99), raw: percentile(rawSide.latencies, 99),
		note: fmt.Sprintf("p99 of %d; median %.1f ms, raw %.1f ms; the raw poller skipped %d of %d events",
			len(oursSide.latencies), median(oursSide.latencies), median(rawSide.latencies), rawSide.skipped, rawSide.appended),
	}, t.sameRows(ctx)
}

// followedSide is a side whose appends another process follows.
type followedSide struct {
	writers           *writers
	spec              followerSpec
	latencies         []float64 // ms
	appended, skipped int
}

// round follows appends that are due at these times after its start.
func (s *followedSide) round(ctx context.Context, due []time.Duration) error {
	spec := s.spec
	for _, version := range s.writers.versions {
		spec.Known += int(version)
	}
	spec.Events = spec.Known + len(due)
	began := time.Now()
	child, err := startFollower(ctx, spec)
	if err != nil {
		return err
	}
	acknowledged, err := s.writers.paced(ctx, due)
	if err != nil {
		child.kill()
		return err
	}
	delivered, err := child.finish()
	if err != nil {
		return err
	}
	// The two processes share the wall clock alone. Time.Sub goes by the monotonic one, unless Round strips it.
	ended := time.Now()
	if jump := ended.Round(0).Sub(began.Round(0)) - ended.Sub(began); jump.Abs() > time.Millisecond {
		return fmt.Errorf("the clock was set by %s meanwhile: run it again", jump)
	}
	s.appended += len(acknowledged)
	for at, committed := range acknowledged {
		when, ok := delivered[at]
		if !ok {
			s.skipped++
			continue
		}
		s.latencies = append(s.latencies, inMillis(max(0, when.Sub(committed.Round(0)))))
	}
	return nil
}

// place names an event to both processes.
type place struct {
	Stream  eventstore.StreamID
	Version eventstore.Version
}

// paced does an append at each of the due times, and returns when it was acknowledged. Callers that are late catch up.
func (s *writers) paced(ctx context.Context, due []time.Duration) (map[place]time.Time, error) {
	var mu sync.Mutex
	acknowledged := make(map[place]time.Time, len(due))
	var taken atomic.Int64
	started := time.Now()
	callers, ctx := errgroup.WithContext(ctx)
	for caller := range s.streams {
		callers.Go(func() error {
			for {
				i := int(taken.Add(1)) - 1
				if i >= len(due) {
					return nil
				}
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(due[i] - time.Since(started)):
				}
				if err := s.append(ctx, caller, i); err != nil {
					return err
				}
				now := time.Now()
				mu.Lock()
				acknowledged[place{s.streams[caller], s.versions[caller]}] = now
				mu.Unlock()
			}
		})
	}
	return acknowledged, callers.Wait()
}

// followPoll is the cost of the question that a follower asks again and again.
func followPoll(ctx context.Context, w *world) (figures, error) {
	return poll(ctx, w, "follow.poll", w.size.polls)
}

// followPollLocks is the same beside a stranger with many advisory locks: the fences are looked for among them.
func followPollLocks(ctx context.Context, w *world) (figures, error) {
	stranger, err := w.admin.Acquire(ctx)
	if err != nil {
		return figures{}, err
	}
	defer stranger.Release()
	if _, err := stranger.Exec(ctx, `SELECT pg_advisory_lock(i) FROM generate_series(1, $1::bigint) AS i`, w.size.locks); err != nil {
		return figures{}, fmt.Errorf("taking locks: %w", err)
	}
	found, err := poll(ctx, w, "follow.poll.locks5000", w.size.polls/5)
	if _, unlockErr := stranger.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock_all()`); err == nil {
		err = unlockErr
	}
	return found, err
}

func poll(ctx context.Context, w *world, name string, polls int) (figures, error) {
	t, err := w.newTwin(ctx, name)
	if err != nil {
		return figures{}, err
	}
	ours, raw, closePools, err := appendLoad{callers: 1, batch: 1}.writers(ctx, t)
	if err != nil {
		return figures{}, err
	}
	defer closePools()
	for _, side := range []*writers{ours, raw} {
		if _, err := side.appends(ctx, 100); err != nil {
			return figures{}, err
		}
	}
	pool, err := w.pool(ctx, 1)
	if err != nil {
		return figures{}, err
	}
	defer pool.Close()
	store, err := t.store(pool, focusgroup.Codec())
	if err != nil {
		return figures{}, err
	}
	settled := latency(polls, func(ctx context.Context, _ int) error {
		_, err := store.Settled(ctx)
		return err
	})
	last := latency(polls, func(ctx context.Context, _ int) error { return t.raw.last(ctx, pool) })
	return interleave(ctx, w.size.rounds, settled, last)
}
