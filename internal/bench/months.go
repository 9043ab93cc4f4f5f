package main

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// Each row here compares the library with itself: at 24 months, and (as the baseline) at one month of the same size.
func monthBenchmarks() []benchmark {
	return []benchmark{
		{"append.months24", millis, target{ratioAtMost, 1.1}, appendMonths},
		{"read.stream100.months24", millis, target{ratioAtMost, 1.1}, readMonths},
	}
}

// atMonths runs a measurement on both logs, each with a connection of its own.
func atMonths(ctx context.Context, w *world,
	measure func(many, one *filledLog, manyPool, onePool *pgxpool.Pool) (figures, error),
) (figures, error) {
	content := filling{months: w.size.months, events: w.size.monthEvents, length: w.size.streamEvents}
	many, err := w.filledLog(ctx, "months_many", content)
	if err != nil {
		return figures{}, err
	}
	content.months = 1
	one, err := w.filledLog(ctx, "months_one", content)
	if err != nil {
		return figures{}, err
	}
	manyPool, err := w.pool(ctx, 1)
	if err != nil {
		return figures{}, err
	}
	defer manyPool.Close()
	onePool, err := w.pool(ctx, 1)
	if err != nil {
		return figures{}, err
	}
	defer onePool.Close()
	return measure(many, one, manyPool, onePool)
}

// appendMonths is the time of a single append to a stream of this month.
func appendMonths(ctx context.Context, w *world) (figures, error) {
	return atMonths(ctx, w, func(many, one *filledLog, manyPool, onePool *pgxpool.Pool) (figures, error) {
		var sides [2]sample
		for i, log := range []*filledLog{many, one} {
			store, err := log.store([]*pgxpool.Pool{manyPool, onePool}[i], focusgroup.Codec())
			if err != nil {
				return figures{}, err
			}
			writer, err := newWriters(ctx, storeWrite(store), appendLoad{callers: 1, batch: 1})
			if err != nil {
				return figures{}, err
			}
			if _, err := writer.appends(ctx, 100); err != nil { // warm-up
				return figures{}, err
			}
			sides[i] = latency(w.size.appends, func(ctx context.Context, i int) error { return writer.append(ctx, 0, i) })
		}
		return interleave(ctx, w.size.rounds, sides[0], sides[1])
	})
}

// readMonths is the time of reading a stream that lies in one month, any of them.
func readMonths(ctx context.Context, w *world) (figures, error) {
	return atMonths(ctx, w, func(many, one *filledLog, manyPool, onePool *pgxpool.Pool) (figures, error) {
		streams := 10 * w.size.months
		atMany, err := storeReader(many.twin, manyPool, pick(many.streams, streams), w.size.streamEvents)
		if err != nil {
			return figures{}, err
		}
		atOne, err := storeReader(one.twin, onePool, pick(one.streams, streams), w.size.streamEvents)
		if err != nil {
			return figures{}, err
		}
		return readStreams(ctx, w, streams, atMany, atOne)
	})
}
