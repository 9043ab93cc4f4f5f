package vectorsearch

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
)

// largeMonth is how many vectors a month that is not over may have before it gets an index of its own accord.
const largeMonth = 20_000

// Maintained is what a pass of [Index.Maintain] did.
type Maintained struct {
	Built   []time.Time // months whose HNSW index was built
	Dropped []time.Time // months that were past Config.KeepMonths
	Busy    []time.Time // months at which another process is at work
}

// Progress of a build.
type Progress struct {
	Month time.Time
	Phase string // as PostgreSQL calls it
	// Done and Total are vectors, as far as PostgreSQL says.
	Done, Total int64
}

// KeepIndexed runs [Index.Maintain] now and then, until ctx ends; then it returns nil. report may be nil; it is told what each
// pass did, and of its error.
func (x *Index) KeepIndexed(ctx context.Context, every time.Duration, report func(Maintained, error)) error {
	if every <= 0 {
		return invalid("every", "is not above 0")
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		done, err := x.Maintain(ctx, nil)
		if ctx.Err() != nil {
			return nil
		}
		if report != nil {
			report(done, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Maintain builds the HNSW indexes of months that are over or large, one after another, without blocking writers, and drops months
// past Config.KeepMonths. progress may be nil; it is told about once a second. It can be called again after any interruption,
// and by several processes: one builds, the others pass. It needs the rights of the tables' owner, and connections that are
// sessions: not those of a pooler in transaction mode. The error is that of the last month that failed; the others are done.
func (x *Index) Maintain(ctx context.Context, progress func(Progress)) (Maintained, error) {
	var done Maintained
	if err := x.check(ctx); err != nil {
		return done, err
	}
	w, err := x.now(ctx)
	if err != nil {
		return done, err
	}
	var now time.Time
	if err := x.store.Pool().QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return done, err
	}
	var failed error
	for _, l := range w.leaves {
		if ctx.Err() != nil {
			return done, ctx.Err()
		}
		switch {
		case x.isPast(l.month, now):
			err = x.dropMonth(ctx, l)
			record(&done.Dropped, &done.Busy, l.month, err)
		case !l.hnsw && l.rows > exactRows && (monthOf(now).After(l.month) || l.rows > largeMonth):
			var filling bool
			if filling, err = x.filling(ctx, w, l); err == nil && filling {
				continue
			}
			if err == nil {
				err = x.build(ctx, l, progress)
			}
			record(&done.Built, &done.Busy, l.month, err)
		default:
			continue
		}
		if err != nil && !busy(err) {
			failed = fmt.Errorf("%s of %s: %w", x.config.Name, l.month.Format("2006-01"), err)
		}
	}
	return done, failed
}

// filling says that much of a month is still to be indexed: one row at a time into HNSW takes longer than building it then.
func (x *Index) filling(ctx context.Context, w *world, l leaf) (bool, error) {
	var more int
	err := x.store.Pool().QueryRow(ctx, x.sql(`SELECT count(*) FROM (SELECT FROM {{schema}}.events WHERE recorded_at >= $1 AND recorded_at < $2 AND position > $3 LIMIT $4) AS e`),
		l.month, l.month.AddDate(0, 1, 0), int64(w.upTo), exactRows+1).Scan(&more)
	return more > exactRows, err
}

// now is what the index holds.
func (x *Index) now(ctx context.Context) (w *world, err error) {
	err = x.onConn(ctx, func(conn *pgx.Conn) error {
		defer endSnapshot(ctx, conn)
		w, err = x.look(ctx, conn, Query{})
		return err
	})
	return w, err
}

func record(done, others *[]time.Time, month time.Time, err error) {
	switch {
	case err == nil:
		*done = append(*done, month)
	case busy(err):
		*others = append(*others, month)
	}
}

// busy says that another process is, or was a moment ago, at the same work, or that the build met an ANALYZE of the whole database,
// which waits for it while it waits for that.
func busy(err error) bool {
	const duplicateTable = "42P07"
	code := pg.Code(err)
	return code == pg.LockNotAvailable || code == duplicateTable || code == pg.DeadlockDetected
}

// build makes the HNSW index of a month. CREATE INDEX CONCURRENTLY lets writers pass; one that was interrupted leaves an index
// that is not valid, which is dropped first: where another process is at work, its lock is met there.
func (x *Index) build(ctx context.Context, l leaf, progress func(Progress)) error {
	err := x.buildOnce(ctx, l, progress, false)
	if strings.HasPrefix(pg.Code(err), "53") { // parallel workers share memory, of which a container may have little
		err = x.buildOnce(ctx, l, progress, true)
	}
	return err
}

func (x *Index) buildOnce(ctx context.Context, l leaf, progress func(Progress), alone bool) error {
	name := x.leafName("vectors", l.month)
	index := name + "_hnsw"
	conn, err := x.store.Pool().Acquire(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Hijack().Close(context.WithoutCancel(ctx)) }() // the settings are the session's: it goes
	if _, err := conn.Exec(ctx, buildMemory); err != nil {
		return err
	}
	for _, setting := range x.buildSettings(alone) {
		if _, err := conn.Exec(ctx, `SELECT set_config($1, $2, false)`, setting[0], setting[1]); err != nil {
			return err
		}
	}
	var valid *bool
	err = conn.QueryRow(ctx, `SELECT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1::text))`, x.quote(index)).Scan(&valid)
	if err != nil {
		return err
	}
	if valid != nil && !*valid {
		if _, err := conn.Exec(ctx, `DROP INDEX CONCURRENTLY IF EXISTS `+x.quote(index)); err != nil {
			return err
		}
	}
	if valid == nil || !*valid {
		// The build waits for transactions that are older than it, also at its end, and must not be lost to one that takes a while.
		if _, err := conn.Exec(ctx, `SELECT set_config('lock_timeout', '30min', false)`); err != nil {
			return err
		}
		stop := x.watch(ctx, l.month, name, progress)
		_, err = conn.Exec(ctx, fmt.Sprintf(`CREATE INDEX CONCURRENTLY %s ON %s USING hnsw (embedding %s.halfvec_cosine_ops)`,
			pgx.Identifier{index}.Sanitize(), x.quote(name), x.extension().schema))
		stop()
		if err != nil {
			return err
		}
	}
	_, err = conn.Exec(ctx, x.sql(`UPDATE {{months}} SET hnsw = true WHERE month = $1::text::date`), l.month.Format(time.DateOnly))
	return err
}

// buildMemory is what a build may use, unless the server's own setting is more: beyond it a build takes many times as long.
const buildMemory = `SELECT set_config('maintenance_work_mem', '1GB', false) WHERE pg_size_bytes(current_setting('maintenance_work_mem')) < pg_size_bytes('1GB')`

// buildSettings are those of a session that builds. Parallel builds of pgvector before 0.8.2 can read past a buffer
// (CVE-2026-3172).
func (x *Index) buildSettings(alone bool) [][2]string {
	settings := [][2]string{{"lock_timeout", "2s"}, {"statement_timeout", "0"}}
	if alone || !x.extension().version.atLeast(0, 8, 2) {
		settings = append(settings, [2]string{"max_parallel_maintenance_workers", "0"})
	}
	return settings
}

// watch tells the progress of a build until it is stopped.
func (x *Index) watch(ctx context.Context, month time.Time, table string, progress func(Progress)) (stop func()) {
	if progress == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			p := Progress{Month: month}
			err := x.store.Pool().QueryRow(ctx, `SELECT phase, greatest(tuples_done, blocks_done), greatest(tuples_total, blocks_total) FROM pg_stat_progress_create_index WHERE relid = to_regclass($1::text)`,
				x.quote(table)).Scan(&p.Phase, &p.Done, &p.Total)
			if err == nil {
				progress(p)
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}()
	return func() { cancel(); <-ended }
}

// dropMonth drops a month's partitions. Searches that found it there find it gone, and look again.
func (x *Index) dropMonth(ctx context.Context, l leaf) error {
	err := pg.InTx(ctx, x.store.Pool(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', '1s', true)`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, x.sql(`DELETE FROM {{months}} WHERE month = $1::text::date`), l.month.Format(time.DateOnly)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DROP TABLE `+x.quote(x.leafName("passages", l.month))+`, `+x.quote(x.leafName("vectors", l.month)))
		return err
	})
	if err == nil {
		x.mu.Lock()
		delete(x.months, l.month)
		x.mu.Unlock()
	}
	return err
}
