package main

import (
	"context"
	"os"
	"time"
)

// syncTimes writes pages of 8 kB one after the other over a file in dir that is already there in full, as WAL is
// written, each followed by a sync. It returns the milliseconds that each took.
func syncTimes(ctx context.Context, dir string) (times []float64, err error) {
	file, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = file.Close()
		_ = os.Remove(file.Name())
	}()
	const pages = 500
	page := make([]byte, 8<<10)
	for range pages {
		if _, err := file.Write(page); err != nil {
			return nil, err
		}
	}
	if err := file.Sync(); err != nil {
		return nil, err
	}
	for i, began := 0, time.Now(); i < pages && time.Since(began) < 2*time.Second; i++ {
		started := time.Now()
		if _, err := file.WriteAt(page, int64(i*len(page))); err != nil {
			return nil, err
		}
		if err := syncData(file); err != nil {
			return nil, err
		}
		times = append(times, inMillis(time.Since(started)))
	}
	return times, ctx.Err()
}
