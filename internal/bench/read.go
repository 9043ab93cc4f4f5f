package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

func readBenchmarks() []benchmark {
	return []benchmark{
		{"read.all", perSecond, target{ratioAtLeast, 0.9}, readAll(nil, 1, func(*eventstore.Recorded) error { return nil })},
		{"read.all.decoded", perSecond, target{}, readAll(focusgroup.Codec(), 4, func(e *eventstore.Recorded) error {
			var response focusgroup.Response
			return json.Unmarshal(e.JSON, &response)
		})},
		{"read.stream100", millis, target{ratioAtMost, 1.15}, readStream},
	}
}

// logToRead is what the rows of reading share.
func logToRead(ctx context.Context, w *world) (*filledLog, error) {
	return w.filledTwin(ctx, "read", filling{months: 1, events: w.size.readEvents, length: w.size.streamEvents})
}

// readAll reads the log, or only the last of so many parts of it; where the store has a codec, the raw side decodes each
// body too.
func readAll(codec *eventstore.Codec, parts int, decode func(*eventstore.Recorded) error) measurement {
	return func(ctx context.Context, w *world) (figures, error) {
		log, err := logToRead(ctx, w)
		if err != nil {
			return figures{}, err
		}
		pool, err := w.pool(ctx, 1)
		if err != nil {
			return figures{}, err
		}
		defer pool.Close()
		store, err := log.store(pool, codec)
		if err != nil {
			return figures{}, err
		}
		want := w.size.readEvents / parts
		after := w.size.readEvents - want // positions are dense here
		ours := scanRate(want, func(ctx context.Context, count func()) error {
			for _, err := range store.All(ctx, eventstore.Position(after), eventstore.Filter{}) {
				if err != nil {
					return err
				}
				count()
			}
			return nil
		})
		raw := scanRate(want, func(ctx context.Context, count func()) error {
			return log.raw.all(ctx, pool, int64(after), func(e *eventstore.Recorded) error {
				count()
				return decode(e)
			})
		})
		return interleave(ctx, w.size.rounds, ours, raw)
	}
}

// scanRate samples the events that a scan of so many reads in a second.
func scanRate(want int, scan func(ctx context.Context, count func()) error) sample {
	return func(ctx context.Context) (float64, error) {
		read := 0
		started := time.Now()
		err := scan(ctx, func() { read++ })
		took := time.Since(started)
		if err == nil && read != want {
			err = fmt.Errorf("a scan read %d events of %d", read, want)
		}
		return float64(read) / took.Seconds(), err
	}
}

// readStream reads streams of one length, one at a time.
func readStream(ctx context.Context, w *world) (figures, error) {
	log, err := logToRead(ctx, w)
	if err != nil {
		return figures{}, err
	}
	pool, err := w.pool(ctx, 1)
	if err != nil {
		return figures{}, err
	}
	defer pool.Close()
	streams := pick(log.streams, 200)
	ours, err := storeReader(log.twin, pool, streams, w.size.streamEvents)
	if err != nil {
		return figures{}, err
	}
	raw := func(ctx context.Context, i int) error {
		found, err := log.raw.stream(ctx, pool, streams[i%len(streams)])
		return wholeStream(found, w.size.streamEvents, err)
	}
	return readStreams(ctx, w, len(streams), ours, raw)
}

// readStreams compares two readers, after each has read every stream once: it is work that counts, not the cache.
func readStreams(ctx context.Context, w *world, streams int, ours, raw readOne) (figures, error) {
	for _, read := range []readOne{ours, raw} {
		for i := range streams {
			if err := read(ctx, i); err != nil {
				return figures{}, err
			}
		}
	}
	return interleave(ctx, w.size.rounds, latency(w.size.streamReads, ours), latency(w.size.streamReads, raw))
}

// readOne reads the i-th of some streams, from the first again after the last.
type readOne func(ctx context.Context, i int) error

// storeReader is the library's side. Each stream must have so many events.
func storeReader(t *twin, pool *pgxpool.Pool, streams []eventstore.StreamID, want int) (readOne, error) {
	store, err := t.store(pool, nil)
	return func(ctx context.Context, i int) error {
		found := 0
		for _, err := range store.Stream(ctx, streams[i%len(streams)], 0) {
			if err != nil {
				return err
			}
			found++
		}
		return wholeStream(found, want, nil)
	}, err
}

func wholeStream(found, want int, err error) error {
	if err == nil && found != want {
		err = fmt.Errorf("a stream of %d events was read as %d", want, found)
	}
	return err
}

// pick chooses n of the streams at random, the same in every run.
func pick(streams []eventstore.StreamID, n int) []eventstore.StreamID {
	random := rand.New(rand.NewPCG(1, 2))
	picked := make([]eventstore.StreamID, n)
	for i := range picked {
		picked[i] = streams[random.IntN(len(streams))]
	}
	return picked
}
