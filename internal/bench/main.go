// Command bench measures the library against the shortest raw pgx code that does the same work (raw.go), on a durable
// PostgreSQL server of its own, which it removes afterwards.
//
//	go run ./internal/bench [-only PREFIX,...] [-json FILE] [-list]
//
// Both sides run in this process, on tables of one layout, in rounds that alternate: ours, raw, raw, ours … A figure is
// the median of its rounds, and the ratio is ours divided by the baseline; "rounds" shows their number and the lowest
// and the highest ratio of one, which tells how quiet the machine was. Where less is better, a target is an upper bound. The
// baseline is the raw code, except in the rows *.months24, where it is the library itself with one month in place of 24, and in
// partition.stall, where it is the library in quiet.
//
// A new row is a benchmark in the list of its theme's file (append.go, read.go …); [benchmarks] joins the lists.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// benchmarks lists every row, in the order they run: what writes little first, what fills tables last.
func benchmarks() []benchmark {
	var all []benchmark
	for _, theme := range [][]benchmark{
		appendBenchmarks(), importBenchmarks(), followBenchmarks(), readBenchmarks(), monthBenchmarks(), projectionBenchmarks(), timeBenchmarks(), replayBenchmarks(),
		archiveBenchmarks(),
	} {
		all = append(all, theme...)
	}
	return all
}

func main() {
	if spec := os.Getenv(followerVariable); spec != "" {
		os.Exit(followerMain(spec))
	}
	only := flag.String("only", "", "run the rows whose names begin with one of these, separated by commas")
	file := flag.String("json", "", "write the rows to this file as well")
	list := flag.Bool("list", false, "list the names of the rows")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	err := run(ctx, os.Stdout, full(), *only, *file, *list)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, size scale, only, file string, list bool) error {
	chosen := choose(benchmarks(), only)
	if len(chosen) == 0 {
		return fmt.Errorf("no row's name begins with any of %q", only)
	}
	if list {
		for _, b := range chosen {
			say(out, "%s\n", b.name)
		}
		return nil
	}
	w, err := newWorld(ctx, size)
	if err != nil {
		return err
	}
	rows, err := w.measure(ctx, out, chosen)
	if err == nil && file != "" {
		err = writeJSON(file, rows)
	}
	if closeErr := w.close(); err == nil {
		err = closeErr
	}
	return err
}

// choose keeps the rows whose names begin with one of the prefixes; no prefix chooses all.
func choose(all []benchmark, only string) []benchmark {
	var chosen []benchmark
	for _, b := range all {
		for prefix := range strings.SplitSeq(only, ",") {
			if strings.HasPrefix(b.name, strings.TrimSpace(prefix)) {
				chosen = append(chosen, b)
				break
			}
		}
	}
	return chosen
}
