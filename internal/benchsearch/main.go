// Command benchsearch measures searches and indexing beside the shortest hand-written SQL that does the same, on a durable server
// of its own, in rounds that alternate.
//
//	go run ./internal/benchsearch [-each 100000] [-months 6] [-dimensions 768]
//
// The vectors lie in clusters. Both sides use the same tables and HNSW indexes, with the same ef_search, and answer with the same
// columns; their recall is printed beside.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/clustered"
	"github.com/sight-platform/hindsight/internal/devdb"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/vectorsearch"
)

func main() {
	each := flag.Int("each", 100_000, "vectors of a month")
	months := flag.Int("months", 6, "months of the larger index")
	dimensions := flag.Int("dimensions", 768, "of the vectors")
	flag.IntVar(&ef, "ef", 0, "ef_search of both sides; 0: what the package chooses")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *each, *months, *dimensions); err != nil {
		fmt.Fprintln(os.Stderr, "benchsearch:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, each, months, dimensions int) (err error) {
	cluster, err := devdb.StartCluster(ctx, map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "4GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min",
	})
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := cluster.Close(); err == nil {
			err = closeErr
		}
	}()
	pool, err := pgxpool.New(ctx, cluster.URL())
	if err != nil {
		return err
	}
	defer pool.Close()
	fmt.Printf("%d vectors a month, %d dimensions\n%-36s %10s %10s %7s %8s  %s\n", each, dimensions, "what", "ours", "raw", "ratio", "promised", "met")
	embedder := clustered.New(dimensions, 200)
	for _, n := range slices.Compact([]int{1, months}) {
		b := &bench{pool: pool, embedder: embedder, months: n, each: each, schema: fmt.Sprintf("months_%d", n)}
		if err := b.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// bench is one index.
type bench struct {
	pool         *pgxpool.Pool
	embedder     *clustered.Embedder
	months, each int
	schema       string
	store        *eventstore.Store
	index        *vectorsearch.Index
	leaves       []string      // of vectors
	indexed      time.Duration // what indexing took, without the embedder
}

// timedEmbedder knows how long it was at work.
type timedEmbedder struct {
	*clustered.Embedder
	took time.Duration
}

func (e *timedEmbedder) Embed(ctx context.Context, texts []string) ([][]float32, vectorsearch.Usage, error) {
	started := time.Now()
	defer func() { e.took += time.Since(started) }()
	return e.Embedder.Embed(ctx, texts)
}

func (b *bench) run(ctx context.Context) error {
	if err := b.fill(ctx); err != nil {
		return fmt.Errorf("filling: %w", err)
	}
	if b.months == 1 {
		if err := b.copyRaw(ctx); err != nil {
			return fmt.Errorf("raw COPY: %w", err)
		}
	}
	if err := b.build(ctx); err != nil {
		return fmt.Errorf("building: %w", err)
	}
	for _, q := range []question{
		{"search.p50", "", 1.25}, {"search.filtered10pct", clustered.Tenth, 0}, {"search.filtered1pct", clustered.Hundredth, 1.25}, {"search.filtered0.1pct", clustered.Thousandth, 0},
	} {
		if err := b.compare(ctx, q); err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
	}
	return nil
}

// fill imports a log and indexes it.
func (b *bench) fill(ctx context.Context) (err error) {
	if b.store, err = eventstore.New(b.pool, eventstore.Config{Schema: b.schema, Codec: focusgroup.Codec()}); err != nil {
		return err
	}
	if err := b.store.Migrate(ctx); err != nil {
		return err
	}
	if _, err := b.store.Import(ctx, clustered.Turns(b.months, b.each), eventstore.ImportConfig{}); err != nil {
		return err
	}
	timed := &timedEmbedder{Embedder: b.embedder}
	if b.index, err = vectorsearch.New(b.store, vectorsearch.Config{Embedder: timed}); err != nil {
		return err
	}
	if err := b.index.Migrate(ctx); err != nil {
		return err
	}
	runner, err := projection.New(b.store, projection.Config{Projections: []projection.Projection{b.index}})
	if err != nil {
		return err
	}
	if err := runner.Migrate(ctx); err != nil {
		return err
	}
	started := time.Now()
	err = runner.CatchUp(ctx)
	b.indexed = time.Since(started) - timed.took
	return err
}

// build makes the HNSW indexes, and says what a vector weighs.
func (b *bench) build(ctx context.Context) error {
	before, err := b.bytes(ctx)
	if err != nil {
		return err
	}
	started := time.Now()
	done, err := b.index.Maintain(ctx, nil)
	if err != nil {
		return err
	}
	took := time.Since(started)
	after, err := b.bytes(ctx)
	if err != nil {
		return err
	}
	rows := float64(b.months * b.each)
	fmt.Printf("%-36s %9.0fs  %d HNSW indexes\n", b.label("build"), took.Seconds(), len(done.Built))
	fmt.Printf("%-36s %10.0f  bytes: the row, its indexes by filters; with HNSW %.0f\n", b.label("a vector"), float64(before)/rows, float64(after)/rows)
	_, err = b.pool.Exec(ctx, `VACUUM (ANALYZE)`)
	return err
}

func (b *bench) label(name string) string { return fmt.Sprintf("%s.%dm", name, b.months) }

func (b *bench) bytes(ctx context.Context) (total int64, err error) {
	rows, err := b.pool.Query(ctx, `SELECT inhrelid::regclass::text, pg_total_relation_size(inhrelid) FROM pg_inherits WHERE inhparent = $1::text::regclass ORDER BY 1`, b.schema+".search_vectors_v1")
	if err != nil {
		return 0, err
	}
	type leaf struct {
		Name string
		Size int64
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[leaf])
	b.leaves = nil
	for _, l := range found {
		b.leaves, total = append(b.leaves, l.Name), total+l.Size
	}
	return total, err
}
