package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/partition"
)

// stall is the 99.9th percentile of an append's time while a month is attached and detached all the time, beside the same in quiet.
func stall(ctx context.Context, w *world) (figures, error) {
	c, err := w.closedMonth(ctx, "partition.stall", w.size.stallEvents, w.size.streamEvents)
	if err != nil {
		return figures{}, err
	}
	defer func() { _ = c.close() }()
	months, err := c.months(partition.Config{Archive: c.blob})
	if err != nil {
		return figures{}, err
	}
	pool, err := w.pool(ctx, stallCallers)
	if err != nil {
		return figures{}, err
	}
	defer pool.Close()
	store, err := c.store(pool, focusgroup.Codec())
	if err != nil {
		return figures{}, err
	}
	writers, err := newWriters(ctx, storeWrite(store), appendLoad{callers: stallCallers, batch: 1})
	if err != nil {
		return figures{}, err
	}
	quiet := func(ctx context.Context) (float64, error) { return writers.slowest(ctx, w.size.stallRound) }
	moves, longest := 0, time.Duration(0)
	ours := func(ctx context.Context) (p999 float64, err error) {
		during, stop := context.WithCancel(ctx)
		var beside errgroup.Group
		beside.Go(func() error {
			for during.Err() == nil { // each move is ended: a cancelled one would be waited for in the next round
				if err := outAndBack(ctx, months, c.month); err != nil {
					return err
				}
				moves++
			}
			return nil
		})
		beside.Go(func() (err error) {
			longest, err = lockWaits(during, ctx, w.admin, longest)
			return err
		})
		p999, err = writers.slowest(ctx, w.size.stallRound)
		stop()
		if besideErr := beside.Wait(); err == nil {
			err = besideErr
		}
		return p999, err
	}
	if _, err := quiet(ctx); err != nil { // warm-up
		return figures{}, err
	}
	found, err := interleave(ctx, w.size.archiveRounds, ours, quiet)
	kept := "yes"
	if longest > 50*time.Millisecond {
		kept = "NO"
	}
	found.note = fmt.Sprintf("%d callers; %d times a month was detached, dropped, restored and attached; the longest wait for a table's lock, anybody's, was %.1f ms (at most 50: %s)",
		stallCallers, moves, inMillis(longest), kept)
	return found, err
}

const stallCallers = 4

func outAndBack(ctx context.Context, months *partition.Months, month time.Time) error {
	if _, err := months.Archive(ctx, month); err != nil {
		return err
	}
	return months.Restore(ctx, month)
}

// lockWaits is how long anybody has waited for a lock on a table, by pg_locks, until during ends.
func lockWaits(during, ctx context.Context, pool *pgxpool.Pool, longest time.Duration) (time.Duration, error) {
	for during.Err() == nil {
		var waited time.Duration
		if err := pool.QueryRow(ctx, `SELECT coalesce(max(clock_timestamp() - waitstart), interval '0') FROM pg_locks WHERE NOT granted AND locktype = 'relation'`).Scan(&waited); err != nil {
			return longest, err
		}
		longest = max(longest, waited)
		time.Sleep(2 * time.Millisecond)
	}
	return longest, nil
}

// slowest appends for some time and returns the 99.9th percentile of an append's, in milliseconds.
func (s *writers) slowest(ctx context.Context, round time.Duration) (float64, error) {
	var mu sync.Mutex
	var all []float64
	callers, ctx := errgroup.WithContext(ctx)
	for caller := range s.streams {
		callers.Go(func() error {
			var times []float64
			for began, i := time.Now(), 0; time.Since(began) < round; i++ {
				started := time.Now()
				if err := s.append(ctx, caller, i); err != nil {
					return err
				}
				times = append(times, inMillis(time.Since(started)))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, times...)
			return nil
		})
	}
	err := callers.Wait()
	return percentile(all, 99.9), err
}
