package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// appendLoad is so many concurrent callers, each appending batches to a stream of its own.
type appendLoad struct {
	callers, batch int
	headOnly       bool // measure not the library, but what its head rows cost at least
}

func appendBenchmarks() []benchmark {
	row := func(name string, callers, batch int, atLeast float64) benchmark {
		load := appendLoad{callers: callers, batch: batch}
		return benchmark{name, perSecond, target{ratioAtLeast, atLeast}, func(ctx context.Context, w *world) (figures, error) {
			return load.run(ctx, w, name)
		}}
	}
	return []benchmark{
		row("append.single.1", 1, 1, 0.85),
		row("append.single.8", 8, 1, 0.9),
		row("append.single.32", 32, 1, 1.3),
		row("append.single.256", 256, 1, 3),
		row("append.batch10.8", 8, 10, 0.85),
		row("append.batch100.1", 1, 100, 0.85),
		{"append.head.1", perSecond, target{}, func(ctx context.Context, w *world) (figures, error) {
			return appendLoad{callers: 1, batch: 1, headOnly: true}.run(ctx, w, "append.head.1")
		}},
	}
}

// write appends a batch to a stream whose last version is known, in a commit of its own.
type write func(ctx context.Context, stream eventstore.StreamID, last eventstore.Version, batch []focusgroup.Response) error

// storeWrite is the library's side.
func storeWrite(store *eventstore.Store) write {
	return func(ctx context.Context, stream eventstore.StreamID, last eventstore.Version, batch []focusgroup.Response) error {
		events := make([]any, len(batch))
		for i := range batch {
			events[i] = batch[i]
		}
		_, err := store.Append(ctx, stream, eventstore.AtVersion(last), events...)
		return err
	}
}

// run measures both sides with the same number of appends a round.
func (l appendLoad) run(ctx context.Context, w *world, name string) (figures, error) {
	t, err := w.newTwin(ctx, name)
	if err != nil {
		return figures{}, err
	}
	ours, raw, closePools, err := l.writers(ctx, t)
	if err != nil {
		return figures{}, err
	}
	defer closePools()
	n, err := calibrate(ctx, w.size.warm*l.callers, w.size.round, ours, raw)
	if err != nil {
		return figures{}, err
	}
	found, err := interleave(ctx, w.size.rounds, ours.rate(n), raw.rate(n))
	if err != nil {
		return figures{}, err
	}
	found.note = fmt.Sprintf("%d callers over %d connections a side, %d appends a round", l.callers, connections(l.callers), n)
	return found, t.sameRows(ctx)
}

// calibrate warms both sides up (connections, prepared statements, cached plans) with the same number of appends, and
// returns how many the raw side does in a round.
func calibrate(ctx context.Context, n int, round time.Duration, ours, raw *writers) (int, error) {
	for {
		if _, err := ours.appends(ctx, n); err != nil {
			return 0, err
		}
		took, err := raw.appends(ctx, n)
		if err != nil {
			return 0, err
		}
		if took > round/3 {
			return max(n, int(round.Seconds()/took.Seconds()*float64(n))), nil
		}
		n *= 2
	}
}

// writers makes the callers of both sides, each with a pool of its own.
func (l appendLoad) writers(ctx context.Context, t *twin) (ours, raw *writers, closePools func(), err error) {
	oursPool, err := t.world.pool(ctx, connections(l.callers))
	if err != nil {
		return nil, nil, nil, err
	}
	rawPool, err := t.world.pool(ctx, connections(l.callers))
	if err != nil {
		oursPool.Close()
		return nil, nil, nil, err
	}
	closePools = func() {
		oursPool.Close()
		rawPool.Close()
	}
	store, err := t.store(oursPool, focusgroup.Codec())
	if err == nil && l.headOnly {
		ours, err = newWriters(ctx, t.raw.headWrite(oursPool, t.schema), l)
	} else if err == nil {
		ours, err = newWriters(ctx, storeWrite(store), l)
	}
	if err == nil {
		raw, err = newWriters(ctx, t.raw.write(rawPool), l)
	}
	if err != nil {
		closePools()
	}
	return ours, raw, closePools, err
}

// writers are the concurrent callers of one side.
type writers struct {
	write    write
	streams  []eventstore.StreamID
	versions []eventstore.Version
	batches  [][]focusgroup.Response
}

// newWriters begins a stream for each caller.
func newWriters(ctx context.Context, write write, load appendLoad) (*writers, error) {
	s := &writers{write: write}
	for range load.callers {
		stream := focusgroup.NewDiscussionID()
		if err := write(ctx, stream, 0, responses(0, 1)); err != nil {
			return nil, fmt.Errorf("beginning a stream: %w", err)
		}
		s.streams = append(s.streams, stream)
		s.versions = append(s.versions, 1)
	}
	for i := range 64 {
		s.batches = append(s.batches, responses(i*load.batch, load.batch))
	}
	return s, nil
}

// append does one append of a caller.
func (s *writers) append(ctx context.Context, caller, i int) error {
	batch := s.batches[i%len(s.batches)]
	if err := s.write(ctx, s.streams[caller], s.versions[caller], batch); err != nil {
		return err
	}
	s.versions[caller] += eventstore.Version(len(batch))
	return nil
}

// appends does n appends: each caller takes the next one as soon as it is done with its last, until none is left.
func (s *writers) appends(ctx context.Context, n int) (time.Duration, error) {
	var taken atomic.Int64
	callers, ctx := errgroup.WithContext(ctx)
	started := time.Now()
	for caller := range s.streams {
		callers.Go(func() error {
			for {
				i := int(taken.Add(1))
				if i > n {
					return nil
				}
				if err := s.append(ctx, caller, i); err != nil {
					return err
				}
			}
		})
	}
	err := callers.Wait()
	return time.Since(started), err
}

// rate samples the events that n appends write in a second.
func (s *writers) rate(n int) sample {
	return func(ctx context.Context) (float64, error) {
		took, err := s.appends(ctx, n)
		return float64(n*len(s.batches[0])) / took.Seconds(), err
	}
}
