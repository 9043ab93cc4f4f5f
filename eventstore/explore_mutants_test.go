package eventstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/internal/devdb"
	"github.com/sight-platform/hindsight/internal/explore"
)

// sabotage is a mechanism of the protocol taken out.
type sabotage struct {
	name   string
	swaps  []explore.Swap
	a      ending // of the first appender; at random it is left to chance if it is a plain commit
	reader readerKind
	burnt  bool // its reader begins after a hole
	// So few interleavings skip that this search is left to a long run.
	rareInOrder, rareAtRandom bool
}

const (
	lockFence    = "v_done := pg_advisory_xact_lock_shared({{schema}}.fence_class(), {{schema}}.fence_key(v_last));"
	askSetting   = "v_last := nullif(current_setting(c_fence, true), '');"
	leaveSetting = "v_done := set_config(c_fence, v_last::text, true);"
	// A lock of the session stays where a setting is rolled back.
	askMark   = "IF EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 2 AND pid = pg_backend_pid() AND objid::text = pg_current_xact_id()::text) THEN RETURN 0; END IF;"
	leaveMark = "PERFORM pg_advisory_lock(2, pg_current_xact_id()::text::integer);"

	lockToUnlock = "PERFORM pg_advisory_lock_shared({{schema}}.fence_class(), {{schema}}.fence_key(v_last));"
	unlock       = "PERFORM pg_advisory_unlock_shared(classid::bigint::integer, objid::bigint::integer) FROM pg_locks WHERE locktype = 'advisory' AND classid > 2 AND pid = pg_backend_pid();"
)

func sabotages() []sabotage {
	swap := func(function, old, replacement string) explore.Swap {
		return explore.Swap{Function: function, Old: old, New: replacement}
	}
	return []sabotage{
		{name: "Fence", a: endCommit, reader: readerAll, swaps: []explore.Swap{
			swap("take_fence", lockFence, "IF false THEN "+lockFence+" END IF;"),
		}},
		{name: "FenceBeforeNextval", a: endCommit, reader: readerAll, swaps: []explore.Swap{
			swap("append", "v_fence := {{schema}}.take_fence(p_in_tx);", "v_fence := 0;"),
			swap("append_at", "v_fence := {{schema}}.take_fence(p_in_tx);", "v_fence := 0;"),
			swap("append", "IF v_position IS NOT NULL THEN", "PERFORM {{schema}}.take_fence(p_in_tx); IF v_position IS NOT NULL THEN"),
			swap("append_at", "IF v_position IS NOT NULL THEN", "PERFORM {{schema}}.take_fence(p_in_tx); IF v_position IS NOT NULL THEN"),
			swap("append_group", "v_fence := {{schema}}.take_fence(false);", "v_fence := 0;"),
			swap("insert_events", "RETURN v_positions;", "PERFORM {{schema}}.take_fence(true); RETURN v_positions;"),
		}},
		{name: "FenceUpToTheCommit", a: endCommit, reader: readerAll, swaps: []explore.Swap{
			swap("take_fence", lockFence, "IF false THEN "+lockFence+" END IF; "+lockToUnlock),
			swap("append", "IF v_position IS NOT NULL THEN", unlock+" IF v_position IS NOT NULL THEN"),
			swap("append_at", "IF v_position IS NOT NULL THEN", unlock+" IF v_position IS NOT NULL THEN"),
			swap("insert_events", "RETURN v_positions;", unlock+" RETURN v_positions;"),
		}},
		{name: "FenceAgainAfterASavepoint", a: endSavepoint, reader: readerAll, rareInOrder: true, swaps: []explore.Swap{
			swap("take_fence", askSetting, askMark), swap("take_fence", leaveSetting, leaveMark),
		}},
		{name: "HBeforeTheFences", a: endCommit, reader: readerAll, burnt: true, rareAtRandom: true, swaps: []explore.Swap{
			swap("settled_position", "SELECT o_last + coalesce(min(d.behind) FILTER (WHERE d.behind <= 0), 0) INTO o_settled", "SELECT min(d.behind) INTO o_settled"),
			swap("settled_position", ") AS d;", ") AS d; PERFORM {{schema}}.gate('H, late', 'fences at ' || coalesce((o_last + o_settled)::text, 'none')); o_settled := least(o_last + o_settled, {{schema}}.last_position());"),
		}},
		{name: "ASnapshotOfItsOwnForEvents", a: endCommit, reader: readerInOneStatement, rareInOrder: true},
	}
}

// The power of the explorer itself: with each mechanism taken out it finds a skip, by going through all interleavings or by
// chance.
func TestExplorerFindsASkipWithout(t *testing.T) {
	t.Parallel()
	settings := settingsOf(t)
	cluster := exploreCluster(testContext(t, time.Hour), t)
	for _, s := range sabotages() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, time.Hour)
			if settings.long || !s.rareInOrder {
				s.findInOrder(ctx, t, cluster)
			}
			if settings.long || !s.rareAtRandom {
				s.findAtRandom(ctx, t, cluster)
			}
		})
	}
}

// findInOrder goes through all interleavings of a family, shuffled, so that it does not matter much where a skip stands.
func (s sabotage) findInOrder(ctx context.Context, t *testing.T, cluster *devdb.Cluster) {
	t.Helper()
	w := newWorld(ctx, t, cluster, "in_order_"+strings.ToLower(s.name), s.swaps...)
	sc := two(plainPlan(s.a), plainPlan(endCommit))
	sc.reader, sc.burnt = s.reader, s.burnt
	orders := slices.Collect(family{}.space(w.programs(ctx, t, sc)).Interleavings())
	rand.New(rand.NewPCG(3, 4)).Shuffle(len(orders), func(i, j int) { orders[i], orders[j] = orders[j], orders[i] })
	s.find(ctx, t, w, fmt.Sprintf("of all %d in order", len(orders)), len(orders), func(i int) job {
		actors := make([]int, len(orders[i]))
		for step := range orders[i] {
			actors[step] = orders[i][step].Actor
		}
		return job{scenario: sc, choose: inOrder(actors)}
	})
}

// findAtRandom draws scenarios and orders.
func (s sabotage) findAtRandom(ctx context.Context, t *testing.T, cluster *devdb.Cluster) {
	t.Helper()
	w := newWorld(ctx, t, cluster, "at_random_"+strings.ToLower(s.name), s.swaps...)
	s.find(ctx, t, w, "at random", 5000, func(i int) job {
		random := rand.New(rand.NewPCG(1, uint64(i)))
		sc := randomScenario(random)
		if s.reader != readerAll {
			sc.reader = s.reader
		}
		if s.a != endCommit {
			sc.plans[0] = plainPlan(s.a)
		}
		return job{scenario: sc, choose: atRandom(random)}
	})
}

// find does jobs until one skips, and tells the shortest schedule for that.
func (s sabotage) find(ctx context.Context, t *testing.T, w *world, how string, n int, jobs func(int) job) {
	t.Helper()
	for i := range n {
		j := jobs(i)
		v, err := w.run(ctx, j.scenario, j.choose)
		require.NoError(t, err, "%s\n%s", j.scenario, v)
		if v.skip != "" {
			var broken *brokenError
			require.ErrorAs(t, w.shortest(ctx, j.scenario, v, 60), &broken)
			require.NotEmpty(t, broken.visit.skip)
			t.Logf("found in interleaving %d %s:\n%s", i+1, how, broken)
			return
		}
	}
	require.Fail(t, "no skip found", "in %d interleavings %s", n, how)
}
