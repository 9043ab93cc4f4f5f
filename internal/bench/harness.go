package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"time"
)

// benchmark is a row of the table.
type benchmark struct {
	name   string
	unit   unit
	target target
	run    measurement
}

type measurement func(context.Context, *world) (figures, error)

// unit is what a row's figures are; it also says which way is good.
type unit string

const (
	perSecond unit = "events/s" // more is better
	millis    unit = "ms"       // less is better

	queriesPerSecond unit = "queries/s" // less is better
)

// target is what a row must reach; the zero value is none.
type target struct {
	of    bound
	limit float64
}

type bound int

const (
	none bound = iota
	ratioAtLeast
	ratioAtMost
	valueAtMost // of ours alone, in the row's unit
)

func (t target) String() string {
	switch t.of {
	case ratioAtLeast:
		return fmt.Sprintf("ratio >= %.2f", t.limit)
	case ratioAtMost:
		return fmt.Sprintf("ratio <= %.2f", t.limit)
	case valueAtMost:
		return fmt.Sprintf("ours <= %g", t.limit)
	}
	return "-"
}

// verdict says whether figures reach the target.
func (t target) verdict(f figures) string {
	reached := true
	switch t.of {
	case none:
		return "-"
	case ratioAtLeast:
		reached = f.ratio() >= t.limit
	case ratioAtMost:
		reached = f.ratio() <= t.limit
	case valueAtMost:
		reached = f.ours <= t.limit
	}
	if reached {
		return "yes"
	}
	return "NO"
}

// figures is what a benchmark found.
type figures struct {
	ours, raw float64
	rounds    int     // 0: it was measured otherwise
	low, high float64 // the lowest and highest ratio of a round
	note      string  // what the reader should know beside
}

func (f figures) ratio() float64 { return f.ours / f.raw }

// sample measures one side once.
type sample func(context.Context) (float64, error)

// A row ends after this time once it has had a few rounds: on a busy machine they take longer than planned.
const (
	rowTime   = 25 * time.Second
	minRounds = 3
)

// interleave takes samples of both sides in turn. Each round begins with the side that ended the one before, so that what
// a side leaves behind (dirty pages, a warm cache) meets both alike.
func interleave(ctx context.Context, rounds int, ours, raw sample) (figures, error) {
	sides := []sample{ours, raw}
	taken := make([][]float64, 2)
	f := figures{low: math.Inf(1)}
	began := time.Now()
	for round := range rounds {
		if round >= minRounds && time.Since(began) > rowTime {
			break
		}
		for i := range sides {
			side := (round + i) % 2
			runtime.GC() // garbage is collected on its maker's account
			value, err := sides[side](ctx)
			if err != nil {
				return figures{}, err
			}
			taken[side] = append(taken[side], value)
		}
		ratio := taken[0][round] / taken[1][round]
		f.rounds, f.low, f.high = round+1, min(f.low, ratio), max(f.high, ratio)
	}
	f.ours, f.raw = median(taken[0]), median(taken[1])
	return f, nil
}

func median(values []float64) float64 { return percentile(values, 50) }

// percentile is the smallest value that p percent of the values do not exceed; of two middle ones the median is the mean.
func percentile(values []float64, p float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if p == 50 && n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[max(0, int(math.Ceil(p/100*float64(n)))-1)]
}

// latency samples the median time of n calls, in milliseconds.
func latency(n int, call func(ctx context.Context, i int) error) sample {
	return func(ctx context.Context) (float64, error) {
		times := make([]float64, n)
		for i := range times {
			started := time.Now()
			if err := call(ctx, i); err != nil {
				return 0, err
			}
			times[i] = inMillis(time.Since(started))
		}
		return median(times), nil
	}
}

func inMillis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// row is a measured benchmark in the JSON file.
type row struct {
	Name     string  `json:"name"`
	Value    float64 `json:"value"`
	Baseline float64 `json:"baseline"`
	Ratio    float64 `json:"ratio"`
	Unit     unit    `json:"unit"`
}

// benchmarkTimeout bounds a benchmark that would wait for ever.
const benchmarkTimeout = 5 * time.Minute

// measure runs benchmarks one after the other and prints each row as soon as it stands.
func (w *world) measure(ctx context.Context, out io.Writer, chosen []benchmark) ([]row, error) {
	if err := w.describe(ctx, out); err != nil {
		return nil, err
	}
	const layout = "%-24s %12s %12s %7s %17s %-14s %-6s %s\n"
	say(out, layout, "name", "ours", "baseline", "ratio", "rounds", "target", "met", "unit")
	var rows []row
	for _, b := range chosen {
		ctx, cancel := context.WithTimeout(ctx, benchmarkTimeout)
		found, err := b.run(ctx, w)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.name, err)
		}
		rounds := "-"
		if found.rounds > 0 {
			rounds = fmt.Sprintf("%d: %.2f to %.2f", found.rounds, found.low, found.high)
		}
		say(out, layout, b.name, b.unit.text(found.ours), b.unit.text(found.raw), fmt.Sprintf("%.3f", found.ratio()),
			rounds, b.target, b.target.verdict(found), b.unit.explain())
		if found.note != "" {
			say(out, "  %s\n", found.note)
		}
		rows = append(rows, row{b.name, found.ours, found.raw, found.ratio(), b.unit})
	}
	return rows, nil
}

// say prints; a reader that has gone is no reason to stop.
func say(out io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(out, format, args...) }

func (u unit) text(value float64) string {
	if u == perSecond {
		return fmt.Sprintf("%.0f", value)
	}
	return fmt.Sprintf("%.3f", value)
}

func (u unit) explain() string {
	if u == perSecond {
		return string(u) + ", more is better"
	}
	return string(u) + ", less is better"
}
