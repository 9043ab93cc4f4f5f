package eventstore_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/internal/devdb"
	"github.com/sight-platform/hindsight/internal/explore"
)

// lockFence is the statement that holds readers back.
const lockFence = "v_done := pg_advisory_xact_lock_shared({{schema}}.fence_class(), {{schema}}.fence_key(v_last));"

// sabotage is a mechanism of the protocol taken out.
type sabotage struct {
	name   string
	swaps  []explore.Swap
	reader readerKind
	a, b   ending // what the appenders of the exhaustive search do
	burnt  bool   // and what its reader finds
}

func sabotages() []sabotage {
	swap := func(function, old, replacement string) explore.Swap {
		return explore.Swap{Function: function, Old: old, New: replacement}
	}
	return []sabotage{
		{name: "Fence", a: commit, b: commit, reader: all, swaps: []explore.Swap{
			swap("take_fence", lockFence, "IF false THEN "+lockFence+" END IF;"),
		}},
		{name: "FenceBeforeNextval", a: commit, b: commit, reader: all, swaps: []explore.Swap{
			swap("append_at", "v_fence := {{schema}}.take_fence(p_in_tx);", ""),
			swap("append_at", "IF v_position IS NOT NULL THEN", "v_fence := {{schema}}.take_fence(p_in_tx); IF v_position IS NOT NULL THEN"),
			swap("append_at", "{{schema}}.above_fence(v_position, v_fence)", "v_position"),
			swap("append_group", "v_fence := {{schema}}.take_fence(false);", ""),
			swap("insert_events", "RETURN v_positions;", "PERFORM {{schema}}.take_fence(true); RETURN v_positions;"),
		}},
		{name: "FenceUpToTheCommit", a: commit, b: commit, reader: all, swaps: []explore.Swap{
			swap("take_fence", lockFence, "IF false THEN "+lockFence+" END IF; PERFORM pg_advisory_lock_shared({{schema}}.fence_class(), {{schema}}.fence_key(v_last));"),
			swap("append_at", "IF v_position IS NOT NULL THEN", "PERFORM pg_advisory_unlock_shared({{schema}}.fence_class(), {{schema}}.fence_key(v_fence)); IF v_position IS NOT NULL THEN"),
			swap("insert_events", "RETURN v_positions;", "PERFORM pg_advisory_unlock_shared({{schema}}.fence_class(), {{schema}}.fence_key(p_fence)); RETURN v_positions;"),
		}},
		{name: "HBeforeTheFences", a: commit, b: commit, reader: all, burnt: true, swaps: []explore.Swap{
			swap("settled_position", "SELECT o_last + coalesce(min(d.behind) FILTER (WHERE d.behind <= 0), 0) INTO o_settled", "SELECT min(d.behind) INTO o_settled"),
			swap("settled_position", ") AS d;", ") AS d; PERFORM {{schema}}.gate('H, late', 'fences at ' || coalesce((o_last + o_settled)::text, 'none')); o_settled := least(o_last + o_settled, {{schema}}.last_position());"),
		}},
		{name: "ASnapshotOfItsOwn", a: commit, b: commit, reader: oneStatement},
		{name: "SavepointTakingTheSettingToo", a: savepoint, b: commit, reader: all, swaps: []explore.Swap{
			// A lock of the session survives the savepoint, which a setting does not.
			swap("take_fence", "v_last := nullif(current_setting(c_fence, true), '');",
				"SELECT 0 INTO v_last FROM pg_locks WHERE locktype = 'advisory' AND classid = 2 AND pid = pg_backend_pid() AND objid::text = pg_current_xact_id()::text;"),
			swap("take_fence", "v_done := set_config(c_fence, v_last::text, true);", "PERFORM pg_advisory_lock(2, pg_current_xact_id()::text::integer);"),
		}},
		{name: "TransactionTakingTheSettingToo", a: commit, b: commit, reader: all, swaps: []explore.Swap{
			swap("take_fence", "v_done := set_config(c_fence, v_last::text, true);", "v_done := set_config(c_fence, v_last::text, false);"),
		}},
	}
}

// The power of the explorer itself: with each mechanism taken out it finds a skip, by going through all interleavings and
// by chance.
func TestExplorerFindsASkipWithout(t *testing.T) {
	t.Parallel()
	cluster := exploreCluster(testContext(t, 10*time.Minute), t)
	for _, s := range sabotages() {
		t.Run(s.name, func(t *testing.T) {
			t.Run("InOrder", func(t *testing.T) { s.findInOrder(testContext(t, 10*time.Minute), t, cluster) })
			t.Run("AtRandom", func(t *testing.T) { s.findAtRandom(testContext(t, 10*time.Minute), t, cluster) })
		})
	}
}

func (s sabotage) findInOrder(ctx context.Context, t *testing.T, cluster *devdb.Cluster) {
	w := newWorld(ctx, t, cluster, "in_order_"+strings.ToLower(s.name), s.swaps...)
	sc := scenario{plans: []plan{plainPlan(s.a), plainPlan(s.b)}, reader: s.reader, surveys: 1, burnt: s.burnt}
	visited := 0
	for order := range (family{}).space(w.programs(ctx, t, sc)).Interleavings() {
		actors := make([]int, len(order))
		for i, step := range order {
			actors[i] = step.Actor
		}
		v, err := w.run(ctx, sc, inOrder(actors))
		require.NoError(t, err, "%s", v)
		visited++
		if v.skip != "" {
			var broken *brokenError
			require.ErrorAs(t, w.shortest(ctx, sc, v, 60), &broken)
			require.NotEmpty(t, broken.visit.skip)
			t.Logf("found in interleaving %d:\n%s", visited, broken)
			return
		}
	}
	require.Fail(t, "no skip found", "in %d interleavings", visited)
}

// maxRandom is how many interleavings the explorer has for finding a skip by chance.
const maxRandom = 2000

func (s sabotage) findAtRandom(ctx context.Context, t *testing.T, cluster *devdb.Cluster) {
	w := newWorld(ctx, t, cluster, "at_random_"+strings.ToLower(s.name), s.swaps...)
	for i := range maxRandom {
		random := rand.New(rand.NewPCG(1, uint64(i)))
		sc := randomScenario(random)
		if s.reader != all {
			sc.reader = s.reader
		}
		v, err := w.run(ctx, sc, atRandom(random))
		require.NoError(t, err, "%s\n%s", sc, v)
		if v.skip != "" {
			t.Logf("found in interleaving %d: %s", i+1, sc)
			return
		}
	}
	require.Fail(t, "no skip found", "in %d interleavings", maxRandom)
}
