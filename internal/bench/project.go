package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection"
)

func projectionBenchmarks() []benchmark {
	return []benchmark{
		{"projection.facts", perSecond, target{ratioAtLeast, 0.7}, projectFacts},
		{"projection.workers", perSecond, target{ratioAtLeast, 0.9}, projectWorkers},
		{"projection.latency.p50", millis, target{valueAtMost, 30}, projectLatency(50)},
		{"projection.latency.p99", millis, target{valueAtMost, 100}, projectLatency(99)},
		{"projection.idle", queriesPerSecond, target{valueAtMost, 20}, projectIdle},
	}
}

// facts is a projection that writes a row for each event.
type facts struct {
	name   string
	shards int
}

const factColumns = `(position bigint PRIMARY KEY, recorded_at timestamptz NOT NULL, stream_id text NOT NULL, persona text NOT NULL, words integer NOT NULL)`

func factNames() []string {
	return []string{"position", "recorded_at", "stream_id", "persona", "words"}
}

func (f facts) Spec() projection.Spec {
	return projection.Spec{Name: f.name, Shards: f.shards, Tables: []projection.Table{{Name: f.name, SQL: `CREATE TABLE {{table}} ` + factColumns}}}
}

func (f facts) Apply(ctx context.Context, tx pgx.Tx, batch *projection.Batch) error {
	rows := make([][]any, len(batch.Events))
	for i, e := range batch.Events {
		response := e.Data.(focusgroup.Response)
		rows[i] = []any{int64(e.Position), e.RecordedAt, string(e.StreamID), response.PersonaID, len(response.Text)}
	}
	return batch.Copy(ctx, tx, f.name, factNames(), rows)
}

// runners runs a projection in so many processes' worth of workers, each with a pool and a store of its own, until all of the
// log up to a position is done.
func runners(ctx context.Context, w *world, log *filledLog, n int, p facts, upTo eventstore.Position) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	group, inner := errgroup.WithContext(ctx)
	var first *projection.Runner
	started := time.Now()
	for range n {
		pool, err := w.pool(ctx, 6)
		if err != nil {
			cancel()
			return 0, err
		}
		defer pool.Close()
		runner, err := newBenchRunner(log.twin, pool, p)
		if err != nil {
			cancel()
			return 0, err
		}
		if first == nil { // the tables are not part of the work
			if err := runner.Migrate(ctx); err != nil {
				cancel()
				return 0, err
			}
			first, started = runner, time.Now()
		}
		group.Go(func() error { return runner.Run(inner) })
	}
	err := first.WaitFor(inner, p.name, upTo)
	took := time.Since(started)
	cancel()
	if groupErr := group.Wait(); err == nil {
		err = groupErr
	}
	return took, err
}

func newBenchRunner(t *twin, pool *pgxpool.Pool, ps ...projection.Projection) (*projection.Runner, error) {
	store, err := t.store(pool, focusgroup.Codec())
	if err != nil {
		return nil, err
	}
	return projection.New(store, projection.Config{Projections: ps})
}

// factsRate samples how many facts a second so many workers write, from the start of the log, into a new table each time.
func factsRate(w *world, log *filledLog, workers, shards int, round *atomic.Int64) sample {
	return func(ctx context.Context) (float64, error) {
		p := facts{name: fmt.Sprintf("facts_%d_%d", workers, round.Add(1)), shards: shards}
		took, err := runners(ctx, w, log, workers, p, eventstore.Position(w.size.readEvents))
		if err != nil {
			return 0, err
		}
		var written int
		table := log.schema + "." + p.name + "_v1"
		if err := w.admin.QueryRow(ctx, `SELECT count(*) FROM `+table).Scan(&written); err != nil {
			return 0, err
		}
		if written != w.size.readEvents {
			return 0, fmt.Errorf("%d facts of %d events", written, w.size.readEvents)
		}
		_, err = w.admin.Exec(ctx, `DROP TABLE `+table+` CASCADE`)
		return float64(written) / took.Seconds(), err
	}
}

// projectFacts compares with a loop that reads pages and merges each by COPY, in a transaction with its cursor.
func projectFacts(ctx context.Context, w *world) (figures, error) {
	log, err := logToRead(ctx, w)
	if err != nil {
		return figures{}, err
	}
	pool, err := w.pool(ctx, 2)
	if err != nil {
		return figures{}, err
	}
	defer pool.Close()
	var round atomic.Int64
	raw := func(ctx context.Context) (float64, error) {
		started := time.Now()
		if err := log.raw.project(ctx, pool, fmt.Sprintf("facts_%d", round.Add(1))); err != nil {
			return 0, err
		}
		return float64(w.size.readEvents) / time.Since(started).Seconds(), nil
	}
	return interleave(ctx, w.size.rounds, factsRate(w, log, 1, 1, &round), raw)
}

// project reads the raw events in pages and merges a fact for each.
func (r rawLog) project(ctx context.Context, pool *pgxpool.Pool, table string) error {
	target := r.schema + "." + table
	if _, err := pool.Exec(ctx, `CREATE TABLE `+target+` `+factColumns); err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, r.sql(`CREATE TABLE IF NOT EXISTS {{raw}}.cursors (name text PRIMARY KEY, position bigint)`)); err != nil {
		return err
	}
	const pageSize = 5000
	page := r.sql(fmt.Sprintf(`SELECT {{columns}} FROM {{raw}}.events WHERE position > $1 ORDER BY position LIMIT %d`, pageSize))
	var after int64
	for {
		var rows [][]any
		var event eventstore.Recorded
		found, err := forEach(ctx, pool, fields(&event), func() error {
			var response focusgroup.Response
			if err := json.Unmarshal(event.JSON, &response); err != nil {
				return err
			}
			rows = append(rows, []any{int64(event.Position), event.RecordedAt, string(event.StreamID), response.PersonaID, len(response.Text)})
			return nil
		}, page, after)
		if err != nil || found == 0 {
			return err
		}
		after = int64(event.Position)
		if err := r.mergeFacts(ctx, pool, target, table, after, rows); err != nil {
			return err
		}
		if found < pageSize {
			_, err := pool.Exec(ctx, `DROP TABLE `+target)
			return err
		}
	}
}

func (r rawLog) mergeFacts(ctx context.Context, pool *pgxpool.Pool, target, name string, after int64, rows [][]any) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `CREATE TEMP TABLE page ON COMMIT DROP AS SELECT * FROM `+target+` WITH NO DATA`); err != nil {
			return err
		}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"page"}, factNames(), pgx.CopyFromRows(rows)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO `+target+` SELECT * FROM page ON CONFLICT (position) DO NOTHING`, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, r.sql(`INSERT INTO {{raw}}.cursors VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET position = excluded.position`), name, after)
		return err
	})
}

// projectWorkers compares four workers with one, over the same four shards.
func projectWorkers(ctx context.Context, w *world) (figures, error) {
	log, err := logToRead(ctx, w)
	if err != nil {
		return figures{}, err
	}
	var round atomic.Int64
	return interleave(ctx, w.size.rounds, factsRate(w, log, 4, 4, &round), factsRate(w, log, 1, 4, &round))
}

// projectLatency is the time from an append's return to the commit of its row. The worker's store is another than the
// appenders', so that it is not woken by them, as in another process.
func projectLatency(p float64) measurement {
	return func(ctx context.Context, w *world) (figures, error) {
		name := fmt.Sprintf("projection.latency.p%.0f", p)
		t, err := w.newTwin(ctx, name)
		if err != nil {
			return figures{}, err
		}
		ours, raw, closePools, err := appendLoad{callers: 8, batch: 1}.writers(ctx, t)
		if err != nil {
			return figures{}, err
		}
		defer closePools()
		taken, err := visibleAfter(ctx, w, t, ours)
		if err != nil {
			return figures{}, err
		}
		appended, err := appendTimes(ctx, w, raw)
		if err != nil {
			return figures{}, err
		}
		return figures{
			ours: percentile(taken, p), raw: percentile(appended, p),
			note: fmt.Sprintf("at %d appends a second; beside it the time of a raw append itself", w.size.loadRate),
		}, nil
	}
}

// visibleAfter appends at the load's rate beside a worker, and returns how long each event waited for its row, in ms.
func visibleAfter(ctx context.Context, w *world, t *twin, ours *writers) ([]float64, error) {
	pool, err := w.pool(ctx, 6)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	store, err := t.store(pool, focusgroup.Codec())
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var visible []batchTime
	runner, err := projection.New(store, projection.Config{
		Projections: []projection.Projection{facts{name: "facts", shards: 1}},
		Hooks: projection.Hooks{Batch: func(info projection.BatchInfo) {
			if info.Err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			visible = append(visible, batchTime{info.Events, time.Now()})
		}},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()
	settled, err := store.Settled(ctx)
	if err == nil {
		err = runner.WaitFor(ctx, "facts", settled)
	}
	if err != nil {
		return nil, err
	}
	mu.Lock()
	visible = nil
	mu.Unlock()
	returned, err := atRate(ctx, w, ours)
	if err == nil {
		settled, err = store.Settled(ctx)
	}
	if err == nil {
		err = runner.WaitFor(ctx, "facts", settled)
	}
	// The rows are there before the hook is called, and the end of ctx would keep it from being.
	for began := time.Now(); err == nil && eventsOf(&mu, &visible) < len(returned) && time.Since(began) < 5*time.Second; {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if runErr := <-done; err == nil {
		err = runErr
	}
	if err != nil {
		return nil, err
	}
	mu.Lock()
	defer mu.Unlock()
	return waits(returned, visible)
}

type batchTime struct {
	events int
	at     time.Time
}

func eventsOf(mu *sync.Mutex, batches *[]batchTime) (events int) {
	mu.Lock()
	defer mu.Unlock()
	for _, batch := range *batches {
		events += batch.events
	}
	return events
}

// waits pairs appends, by the order of their return, with the batches that hold them. Neighbours may be exchanged, which the
// percentiles do not notice.
func waits(returned []time.Time, visible []batchTime) ([]float64, error) {
	var out []float64
	for _, batch := range visible {
		for range batch.events {
			if len(out) == len(returned) {
				return nil, fmt.Errorf("more rows than the %d appends", len(returned))
			}
			out = append(out, max(0, batch.at.Sub(returned[len(out)]).Seconds()*1000))
		}
	}
	if len(out) != len(returned) {
		return nil, fmt.Errorf("%d rows of %d appends", len(out), len(returned))
	}
	return out, nil
}

// atRate appends at the load's rate, and returns when each append returned, in that order.
func atRate(ctx context.Context, w *world, writers *writers) ([]time.Time, error) {
	var mu sync.Mutex
	var returned []time.Time
	n := int(float64(w.size.loadRate) * w.size.loadRound.Seconds())
	var taken atomic.Int64
	started := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for caller := range writers.streams {
		group.Go(func() error {
			for {
				i := int(taken.Add(1))
				if i > n {
					return nil
				}
				time.Sleep(time.Until(started.Add(time.Duration(i) * time.Second / time.Duration(w.size.loadRate))))
				if err := writers.append(ctx, caller, i); err != nil {
					return err
				}
				mu.Lock()
				returned = append(returned, time.Now())
				mu.Unlock()
			}
		})
	}
	err := group.Wait()
	return returned, err
}

// appendTimes is how long raw appends take at the load's rate, in ms.
func appendTimes(ctx context.Context, w *world, raw *writers) ([]float64, error) {
	var out []float64
	n := int(float64(w.size.loadRate) * w.size.loadRound.Seconds())
	for i := range n {
		started := time.Now()
		if err := raw.append(ctx, i%len(raw.streams), i); err != nil {
			return nil, err
		}
		out = append(out, time.Since(started).Seconds()*1000)
	}
	return out, nil
}

// projectIdle counts what an idle worker with four projections asks the server in a second; beside it a loop that polls a
// table ten times a second.
func projectIdle(ctx context.Context, w *world) (figures, error) {
	t, err := w.newTwin(ctx, "projection.idle")
	if err != nil {
		return figures{}, err
	}
	counter := &queryCounter{}
	config := w.admin.Config().Copy()
	config.ConnConfig.Tracer = counter
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return figures{}, err
	}
	defer pool.Close()
	runner, err := newBenchRunner(t, pool, facts{"idle_a", 1}, facts{"idle_b", 4}, facts{"idle_c", 1}, facts{"idle_d", 2})
	if err != nil {
		return figures{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()
	time.Sleep(w.size.loadRound / 2) // it settles down
	before := counter.queries.Load()
	time.Sleep(2 * w.size.loadRound)
	asked := counter.queries.Load() - before
	cancel()
	return figures{
		ours: float64(asked) / (2 * w.size.loadRound).Seconds(), raw: 10,
		note: "four projections, eight shards, one worker; the baseline polls ten times a second",
	}, <-done
}

// queryCounter counts statements; those of a batch too.
type queryCounter struct{ queries atomic.Int64 }

func (c *queryCounter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.queries.Add(1)
	return ctx
}
func (*queryCounter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (*queryCounter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (c *queryCounter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {
	c.queries.Add(1)
}
func (*queryCounter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}
