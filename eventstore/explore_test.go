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

// settings are how far this run goes: HINDSIGHT_EXPLORE_SEED repeats one, HINDSIGHT_EXPLORE_N visits that many
// interleavings at random, and then all that are visited in order.
type settings struct {
	seed, n uint64
	long    bool
}

func settingsOf(t *testing.T) settings {
	t.Helper()
	s := settings{seed: uint64(time.Now().UnixNano()), n: 400}
	for name, value := range map[string]*uint64{"HINDSIGHT_EXPLORE_SEED": &s.seed, "HINDSIGHT_EXPLORE_N": &s.n} {
		if text := os.Getenv(name); text != "" {
			var err error
			*value, err = strconv.ParseUint(text, 10, 64)
			require.NoError(t, err, name)
			s.long = s.long || value == &s.n
		}
	}
	t.Logf("HINDSIGHT_EXPLORE_SEED=%d HINDSIGHT_EXPLORE_N=%d", s.seed, s.n)
	return s
}

// Guarantee 3, explored: two appenders end in every way while a reader looks, in every order of their steps.
func TestEveryInterleavingOfTwoAppenders(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, time.Hour)
	settings := settingsOf(t)
	e := newExplorer(ctx, t)
	list := families()
	if settings.long {
		list = append(list, longFamilies()...)
	}
	visited, total := 0, 0
	started := time.Now()
	for _, f := range list {
		if settings.long {
			f.sample = 0
		}
		n, of := e.visitAll(ctx, t, f, settings.seed)
		t.Logf("%6d of %6d interleavings: %s", n, of, f.name)
		require.Positive(t, n)
		visited += n
		total += of
	}
	took := time.Since(started)
	t.Logf("%6d of %6d in all, none skips; %v each", visited, total, (took / time.Duration(visited)).Round(10*time.Microsecond))
}

// Guarantee 3, explored: two to four appenders of all kinds and a reader of any, in orders drawn by chance.
func TestInterleavingsAtRandom(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 6*time.Hour)
	settings := settingsOf(t)
	e := newExplorer(ctx, t)
	started := time.Now()
	visited, features := e.visitAtRandom(ctx, t, settings)
	took := time.Since(started)
	for _, name := range slices.Sorted(maps.Keys(features)) {
		t.Logf("%6d of them with: %s", features[name], name)
	}
	t.Logf("%6d different interleavings, none skips; %v each", visited, (took / time.Duration(settings.n)).Round(10*time.Microsecond))
	require.Greater(t, visited, int(settings.n)*9/10)
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

// visitAll visits the interleavings of a family, and returns how many, and how many there are.
func (e *explorer) visitAll(ctx context.Context, t *testing.T, f family, seed uint64) (visited, total int) {
	t.Helper()
	for _, sc := range f.scenarios {
		orders := slices.Collect(f.space(e.worlds[0].programs(ctx, t, sc)).Interleavings())
		total += len(orders)
		if f.sample > 0 && f.sample < len(orders) {
			random := rand.New(rand.NewPCG(seed, 0))
			random.Shuffle(len(orders), func(i, j int) { orders[i], orders[j] = orders[j], orders[i] })
			orders = orders[:f.sample]
		}
		visited += len(orders)
		e.work(ctx, t, len(orders), func(i int) job {
			return job{scenario: sc, order: orders[i], choose: asPlanned(orders[i])}
		}, func(job, visit) {})
	}
	return visited, total
}

// visitAtRandom returns how many of the interleavings it visited were different, and how many of those had which feature.
func (e *explorer) visitAtRandom(ctx context.Context, t *testing.T, s settings) (visited int, features map[string]int) {
	t.Helper()
	seen := map[string]bool{}
	features = map[string]int{}
	e.work(ctx, t, int(s.n), func(i int) job {
		random := rand.New(rand.NewPCG(s.seed, uint64(i)))
		return job{scenario: randomScenario(random), choose: atRandom(random)}
	}, func(j job, v visit) {
		key := fmt.Sprint(j.scenario, v.order())
		if seen[key] {
			return
		}
		seen[key] = true
		visited++
		for _, name := range j.scenario.features() {
			features[name]++
		}
	})
	return visited, features
}

// work does the jobs, and fails at the first that breaks a promise, with the shortest schedule it finds.
func (e *explorer) work(ctx context.Context, t *testing.T, n int, jobs func(int) job, done func(job, visit)) {
	t.Helper()
	var mu sync.Mutex
	next := 0
	take := func() (job, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next++; next > n {
			return job{}, false
		}
		return jobs(next - 1), true
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range e.worlds {
		group.Go(func() error {
			for j, ok := take(); ok && ctx.Err() == nil; j, ok = take() {
				v, err := w.visit(ctx, j)
				if err != nil {
					return err
				}
				mu.Lock()
				done(j, v)
				mu.Unlock()
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
}

// visit does a job.
func (w *world) visit(ctx context.Context, j job) (visit, error) {
	v, err := w.run(ctx, j.scenario, j.choose)
	switch {
	case err != nil:
		err = fmt.Errorf("%s: %w\n%s", j.scenario, err, v)
	case v.skip+v.fault != "":
		err = w.shortest(ctx, j.scenario, v, 200)
	case j.order != nil && !slices.Equal(j.order, v.steps()):
		err = fmt.Errorf("%s: the steps were\n%sbut %v was planned", j.scenario, v, j.order)
	}
	return v, err
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
