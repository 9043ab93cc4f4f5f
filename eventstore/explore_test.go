package eventstore_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/internal/explore"
)

// worlds is how many interleavings are under way at once, each in a log of its own.
const worlds = 2

// Guarantee 3, explored: two appenders end in every way while a reader looks, in every order of their steps. With
// HINDSIGHT_EXPLORE_N (below) there are more of these.
func TestEveryInterleavingOfTwoAppenders(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 10*time.Minute)
	e := newExplorer(ctx, t)
	total := 0
	started := time.Now()
	list := families()
	if os.Getenv("HINDSIGHT_EXPLORE_N") != "" {
		list = append(list, longFamilies()...)
	}
	for _, family := range list {
		visited := e.visitAll(ctx, t, family)
		t.Logf("%6d interleavings: %s", visited, family.name)
		require.Positive(t, visited)
		total += visited
	}
	took := time.Since(started)
	t.Logf("%6d in all, none skips; %v each", total, (took / time.Duration(total)).Round(10*time.Microsecond))
}

// Guarantee 3, explored: two to four appenders of all kinds and a reader of any, in orders drawn by chance.
// HINDSIGHT_EXPLORE_SEED repeats a run, HINDSIGHT_EXPLORE_N makes it longer.
func TestInterleavingsAtRandom(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 6*time.Hour)
	seed, n := uint64(time.Now().UnixNano()), uint64(1500)
	for name, value := range map[string]*uint64{"HINDSIGHT_EXPLORE_SEED": &seed, "HINDSIGHT_EXPLORE_N": &n} {
		if text := os.Getenv(name); text != "" {
			var err error
			*value, err = strconv.ParseUint(text, 10, 64)
			require.NoError(t, err, name)
		}
	}
	t.Logf("HINDSIGHT_EXPLORE_SEED=%d HINDSIGHT_EXPLORE_N=%d", seed, n)
	e := newExplorer(ctx, t)
	started := time.Now()
	visited, endings := e.visitAtRandom(ctx, t, seed, n)
	took := time.Since(started)
	for _, name := range slices.Sorted(maps.Keys(endings)) {
		t.Logf("%6d of them with: %s", endings[name], name)
	}
	t.Logf("%6d different interleavings, none skips; %v each", visited, (took / time.Duration(n)).Round(10*time.Microsecond))
	require.Greater(t, visited, int(n)*9/10)
}

// explorer goes through interleavings in several worlds.
type explorer struct{ worlds []*world }

func newExplorer(ctx context.Context, t *testing.T) *explorer {
	t.Helper()
	cluster := exploreCluster(ctx, t)
	e := &explorer{}
	for i := range worlds {
		e.worlds = append(e.worlds, newWorld(ctx, t, cluster, fmt.Sprintf("explore_%d", i)))
	}
	return e
}

// job is an interleaving to visit.
type job struct {
	scenario scenario
	order    []explore.Step // planned; nil: choose
	choose   chooser
}

// visitAll visits every interleaving of a family and returns how many that were.
func (e *explorer) visitAll(ctx context.Context, t *testing.T, f family) (visited int) {
	t.Helper()
	for _, sc := range f.scenarios {
		space := f.space(e.worlds[0].programs(ctx, t, sc))
		jobs := make(chan job)
		go func() {
			defer close(jobs)
			for order := range space.Interleavings() {
				select {
				case jobs <- job{scenario: sc, order: order, choose: asPlanned(order)}:
					visited++
				case <-ctx.Done():
					return
				}
			}
		}()
		e.work(ctx, t, jobs, func(job, visit) {})
	}
	return visited
}

// visitAtRandom visits n interleavings and returns how many were different, and how many of those had which ending.
func (e *explorer) visitAtRandom(ctx context.Context, t *testing.T, seed, n uint64) (visited int, endings map[string]int) {
	t.Helper()
	jobs := make(chan job)
	go func() {
		defer close(jobs)
		for i := range n {
			random := rand.New(rand.NewPCG(seed, i))
			select {
			case jobs <- job{scenario: randomScenario(random), choose: atRandom(random)}:
			case <-ctx.Done():
				return
			}
		}
	}()
	seen := map[string]bool{}
	endings = map[string]int{}
	e.work(ctx, t, jobs, func(j job, v visit) {
		key := fmt.Sprint(j.scenario, v.order())
		if seen[key] {
			return
		}
		seen[key] = true
		visited++
		for _, name := range j.scenario.features() {
			endings[name]++
		}
	})
	return visited, endings
}

// work goes through the jobs, and fails at the first one that breaks a promise, with the shortest schedule it finds.
func (e *explorer) work(ctx context.Context, t *testing.T, jobs <-chan job, done func(job, visit)) {
	t.Helper()
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range e.worlds {
		group.Go(func() error {
			for j := range jobs {
				v, err := w.run(ctx, j.scenario, j.choose)
				if err != nil {
					return fmt.Errorf("%s: %w\n%s", j.scenario, err, v)
				}
				if v.skip+v.fault != "" {
					return w.shortest(ctx, j.scenario, v, 200)
				}
				if j.order != nil && !slices.Equal(j.order, v.steps()) {
					return fmt.Errorf("%s: the steps were\n%sbut %v was planned", j.scenario, v, j.order)
				}
				mu.Lock()
				done(j, v)
				mu.Unlock()
			}
			return nil
		})
	}
	err := group.Wait()
	for range jobs { //nolint:revive // let the source end
	}
	require.NoError(t, err)
}

// programs are the steps of each actor, as they are when one goes after the other.
func (w *world) programs(ctx context.Context, t *testing.T, sc scenario) [][]string {
	t.Helper()
	v, err := w.run(ctx, sc, inOrder(nil))
	require.NoError(t, err)
	require.Empty(t, v.skip+v.fault, "%s", v)
	programs := make([][]string, maxAppenders+1)
	for _, s := range v.steps() {
		programs[s.Actor] = append(programs[s.Actor], s.Name)
	}
	return programs
}

// brokenError is a schedule after which a promise is broken.
type brokenError struct {
	scenario scenario
	visit    visit
}

func (e *brokenError) Error() string {
	return fmt.Sprintf("%s\n%s      %s", e.scenario, e.visit, strings.Join([]string{e.visit.skip, e.visit.fault}, "\n      "))
}

// shortest looks for less that breaks the same promise: a simpler scenario, then fewer changes from one actor to another.
func (w *world) shortest(ctx context.Context, sc scenario, v visit, budget int) error {
	broken := func(sc scenario, order []int) bool {
		budget--
		again, err := w.run(ctx, sc, inOrder(order))
		if err != nil || (again.skip == "") != (v.skip == "") || again.skip+again.fault == "" {
			return false
		}
		v = again
		return true
	}
	order := v.order()
	for less := true; less; {
		less = false
		for _, other := range simpler(sc) {
			if budget > 0 && broken(other, order) {
				sc, less = other, true
				break
			}
		}
	}
	explore.Shrink(order, budget, func(shorter []int) bool { return broken(sc, shorter) })
	return &brokenError{sc, v}
}
