package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/partition"
)

func archiveBenchmarks() []benchmark {
	return []benchmark{
		{"partition.archive", perSecond, target{ratioAtLeast, 0.5}, archiveMonth},
		{"partition.restore", perSecond, target{ratioAtLeast, 0.5}, restoreMonth},
		{"partition.stall", millis, target{}, stall},
	}
}

// closedMonth is a log whose month before this one is sealed, and what is needed to archive it again and again.
type closedMonth struct {
	*filledLog
	pool   *pgxpool.Pool
	dir    string // for the archive and for what the raw side writes
	blob   *partition.Dir
	month  time.Time
	events int
}

func (w *world) closedMonth(ctx context.Context, name string, events, length int) (*closedMonth, error) {
	log, err := w.filledLog(ctx, name, filling{months: 2, events: events, length: length, past: true})
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	c := &closedMonth{filledLog: log, month: time.Date(now.Year(), now.Month()-1, 1, 0, 0, 0, 0, time.UTC), events: events}
	if c.dir, err = os.MkdirTemp("", "bench-archive-"); err != nil {
		return nil, err
	}
	if c.blob, err = partition.NewDir(filepath.Join(c.dir, "archive")); err != nil {
		return nil, errors.Join(err, c.close())
	}
	if c.pool, err = w.pool(ctx, 2); err != nil {
		return nil, errors.Join(err, c.close())
	}
	months, err := c.months(partition.Config{Online: 1000})
	if err == nil {
		err = months.Migrate(ctx)
	}
	if err == nil {
		_, err = months.Maintain(ctx) // seals
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *closedMonth) close() error {
	if c.pool != nil {
		c.pool.Close()
	}
	return os.RemoveAll(c.dir)
}

func (c *closedMonth) months(config partition.Config) (*partition.Months, error) {
	config.Logger, config.Quarantine = slog.New(slog.DiscardHandler), time.Nanosecond
	store, err := c.store(c.pool, nil)
	if err != nil {
		return nil, err
	}
	return partition.New(store, config)
}

// leaf is the month's table.
func (c *closedMonth) leaf() pgx.Identifier {
	return pgx.Identifier{c.schema, "events_" + c.month.Format("2006_01")}
}

func (c *closedMonth) file(format string) string { return filepath.Join(c.dir, "raw."+format) }

// copyOut is the raw side: one COPY into a file, kept.
func (c *closedMonth) copyOut(ctx context.Context, format string) (float64, error) {
	return c.rate(func() (err error) {
		file, err := os.Create(c.file(format))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		buffered := bufio.NewWriterSize(file, 1<<20)
		err = c.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
			_, err := conn.Conn().PgConn().CopyTo(ctx, buffered, `COPY `+c.leaf().Sanitize()+` TO STDOUT (FORMAT `+format+`)`)
			return err
		})
		return errors.Join(err, buffered.Flush(), file.Sync())
	})
}

// copyIn is the raw side: one COPY from that file into a new table, which then gets the month's keys.
func (c *closedMonth) copyIn(ctx context.Context, format string) (float64, error) {
	table := pgx.Identifier{c.schema, "raw_copy"}.Sanitize()
	rate, err := c.rate(func() (err error) {
		file, err := os.Open(c.file(format))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		return pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `CREATE TABLE `+table+` (LIKE `+pgx.Identifier{c.schema, "events"}.Sanitize()+` INCLUDING ALL)`); err != nil {
				return err
			}
			_, err := tx.Conn().PgConn().CopyFrom(ctx, bufio.NewReaderSize(file, 1<<20), `COPY `+table+` FROM STDIN (FORMAT `+format+`, FREEZE)`)
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `ALTER TABLE `+table+` ADD UNIQUE (stream_id, version), ADD UNIQUE (position), ADD UNIQUE (event_id)`)
			return err
		})
	})
	if err != nil {
		return 0, err
	}
	_, err = c.pool.Exec(ctx, `DROP TABLE `+table)
	return rate, err
}

// rate is how many of the month's events are done in a second.
func (c *closedMonth) rate(f func() error) (float64, error) {
	started := time.Now()
	err := f()
	return float64(c.events) / time.Since(started).Seconds(), err
}

// untilManifest ends an export when all but the manifest is written, and kept.
type untilManifest struct{ *partition.Dir }

var errManifest = errors.New("the export is done")

func (u untilManifest) Put(ctx context.Context, key string, content []byte) error {
	if strings.HasSuffix(key, "manifest.json") {
		return errManifest
	}
	return u.Dir.Put(ctx, key, content)
}

// archiveMonth is the export of a sealed month, NDJSON and Parquet and index, beside one COPY of it to a file.
func archiveMonth(ctx context.Context, w *world) (figures, error) {
	c, err := w.closedMonth(ctx, "partition.archive", w.size.archiveEvents, w.size.streamEvents)
	if err != nil {
		return figures{}, err
	}
	defer func() { _ = c.close() }()
	months, err := c.months(partition.Config{Archive: untilManifest{c.blob}})
	if err != nil {
		return figures{}, err
	}
	var bytes int64
	ours := func(ctx context.Context) (float64, error) {
		rate, err := c.rate(func() error {
			if _, err := months.Archive(ctx, c.month); !errors.Is(err, errManifest) {
				return fmt.Errorf("exporting: %w", err)
			}
			return nil
		})
		if err == nil {
			bytes, err = c.empty(ctx)
		}
		return rate, err
	}
	peak := watchMemory()
	found, err := interleave(ctx, w.size.archiveRounds, ours, func(ctx context.Context) (float64, error) { return c.copyOut(ctx, "text") })
	held := peak()
	if err != nil {
		return figures{}, err
	}
	raw, err := os.Stat(c.file("text"))
	if err != nil {
		return figures{}, err
	}
	binary, err := c.copyOut(ctx, "binary")
	if err != nil {
		return figures{}, err
	}
	found.note = fmt.Sprintf("%d events, %d MB by COPY in its own format (in binary, once: %.0f events/s), %d MB of objects; peak memory of this process %d MB",
		c.events, raw.Size()>>20, binary, bytes>>20, held>>20)
	return found, nil
}

// watchMemory notes how much memory of the system this process holds at most, in bytes, until its answer is asked for.
func watchMemory() (peak func() uint64) {
	stop, done := make(chan struct{}), make(chan uint64)
	go func() {
		samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
		most := uint64(0)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			metrics.Read(samples)
			most = max(most, samples[0].Value.Uint64()-samples[1].Value.Uint64())
			select {
			case <-stop:
				done <- most
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 {
		close(stop)
		return <-done
	}
}

// empty deletes the archive, and says how large it was.
func (c *closedMonth) empty(ctx context.Context) (bytes int64, err error) {
	keys, err := c.blob.List(ctx, "")
	for _, key := range keys {
		info, statErr := os.Stat(filepath.Join(c.dir, "archive", key))
		if statErr != nil {
			return 0, statErr
		}
		bytes += info.Size()
		err = errors.Join(err, c.blob.Delete(ctx, key))
	}
	return bytes, err
}

// restoreMonth brings a dropped month back, beside one COPY of the same rows into a table like it.
func restoreMonth(ctx context.Context, w *world) (figures, error) {
	c, err := w.closedMonth(ctx, "partition.archive", w.size.archiveEvents, w.size.streamEvents)
	if err != nil {
		return figures{}, err
	}
	defer func() { _ = c.close() }()
	if _, err := c.copyOut(ctx, "text"); err != nil {
		return figures{}, err
	}
	months, err := c.months(partition.Config{Archive: c.blob})
	if err != nil {
		return figures{}, err
	}
	var whole []float64
	ours := func(ctx context.Context) (float64, error) {
		rate, err := c.rate(func() error {
			state, err := months.Archive(ctx, c.month)
			if err == nil && state != partition.Dropped {
				err = errors.New("it stays " + string(state))
			}
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("archiving: %w", err)
		}
		whole = append(whole, rate)
		return c.rate(func() error { return months.Restore(ctx, c.month) })
	}
	peak := watchMemory()
	found, err := interleave(ctx, w.size.archiveRounds, ours, func(ctx context.Context) (float64, error) { return c.copyIn(ctx, "text") })
	held := peak()
	if err != nil {
		return figures{}, err
	}
	found.note = fmt.Sprintf("%d events; peak memory of this process %d MB. Archived whole, with checks and drop: %.0f events/s the first time, %.0f when the objects are there",
		c.events, held>>20, whole[0], median(whole[1:]))
	return found, nil
}
