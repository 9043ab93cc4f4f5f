package explore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/internal/devdb"
	"github.com/sight-platform/hindsight/internal/explore"
)

// counting reads a number and writes the next one: two sessions can lose an update between.
const counting = `
CREATE SCHEMA %[1]s;
CREATE TABLE %[1]s.counter (n integer NOT NULL);
INSERT INTO %[1]s.counter VALUES (0);
CREATE FUNCTION %[1]s.count_up() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_n integer;
BEGIN
    SELECT n INTO v_n FROM %[1]s.counter;
    UPDATE %[1]s.counter SET n = v_n + 1;
    RETURN v_n + 1;
END $$`

func countingPlaces() []explore.Place {
	return []explore.Place{
		{Function: "count_up", Before: "SELECT n INTO v_n", Gate: "read"},
		{Function: "count_up", Before: "UPDATE {{schema}}.counter", Gate: "write", Detail: "'n = ' || v_n"},
	}
}

// stage is a schema with that function and two actors.
type stage struct {
	admin    *pgx.Conn
	schema   string
	director *explore.Director
	pools    []*pgxpool.Pool
}

func newStage(t *testing.T, swaps ...explore.Swap) (context.Context, *stage) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	database, err := devdb.Shared(ctx)
	require.NoError(t, err)
	url := database.DirectURL // past a pooler: actors are sessions, known by their process, and the director's holds locks
	s := &stage{schema: fmt.Sprintf("explore_test_%d", time.Now().UnixNano())}
	s.admin, err = pgx.Connect(ctx, url)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := s.admin.Exec(context.WithoutCancel(ctx), `DROP SCHEMA IF EXISTS `+s.schema+` CASCADE`)
		require.NoError(t, err)
		require.NoError(t, s.admin.Close(context.WithoutCancel(ctx)))
	})
	_, err = s.admin.Exec(ctx, fmt.Sprintf(counting, `"`+s.schema+`"`))
	require.NoError(t, err)
	require.NoError(t, explore.Install(ctx, s.admin, s.schema, countingPlaces(), swaps))
	s.director, err = explore.NewDirector(ctx, url, s.schema, "A", "B")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.director.Close(context.WithoutCancel(ctx))) })
	for _, actor := range s.director.Actors() {
		config, err := pgxpool.ParseConfig(url)
		require.NoError(t, err)
		actor.Attach(config)
		pool, err := pgxpool.NewWithConfig(ctx, config)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		s.pools = append(s.pools, pool)
	}
	t.Cleanup(cancel) // ends actors that still wait at a gate, so that their pools can be closed
	return ctx, s
}

// countUp counts up in a transaction.
func (s *stage) countUp(a *explore.Actor) func(context.Context) error {
	return func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, s.pools[a.Index], func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT `+s.schema+`.count_up()`); err != nil {
				return err
			}
			return a.Pause(ctx, "commit")
		})
	}
}

func (s *stage) start(ctx context.Context, t *testing.T) (a, b *explore.Actor) {
	t.Helper()
	s.director.Reset()
	for _, actor := range s.director.Actors() {
		require.NoError(t, s.director.Start(ctx, actor, s.countUp(actor)))
	}
	return s.director.Actors()[0], s.director.Actors()[1]
}

func (s *stage) counter(ctx context.Context, t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, s.admin.QueryRow(ctx, `SELECT n FROM `+s.schema+`.counter`).Scan(&n))
	return n
}

// The orders in which the second reads before the first has committed lose an update, and no others.
func TestEveryInterleavingOfTwoSessions(t *testing.T) {
	t.Parallel()
	ctx, s := newStage(t)
	program := []string{"read", "write", "commit"}
	space := explore.Space{
		Programs:  [][]string{program, program},
		Dependent: func(a, b explore.Step) bool { return true },
		Blocked: func(done []explore.Step, next explore.Step) bool { // the row is locked from the write to the commit
			other := 1 - next.Actor
			return next.Name == "write" && contains(done, other, "write") && !contains(done, other, "commit")
		},
	}
	visited := 0
	for order := range space.Interleavings() {
		before := s.counter(ctx, t)
		s.start(ctx, t)
		for _, step := range order {
			require.NoError(t, s.director.Step(ctx, s.director.Actors()[step.Actor]))
		}
		require.Zero(t, s.director.Active())
		var steps []explore.Step
		for _, done := range s.director.Trace() {
			steps = append(steps, done.Step)
		}
		require.Equal(t, order, steps)
		serial := order[2].Name == "commit" // the first is done before the second begins
		want := before + 1
		if serial {
			want++
		}
		require.Equal(t, want, s.counter(ctx, t), "%v", s.director.Trace())
		visited++
	}
	require.Greater(t, visited, 2)
}

func contains(done []explore.Step, actor int, name string) bool {
	for _, step := range done {
		if step.Actor == actor && step.Name == name {
			return true
		}
	}
	return false
}

// A session that waits for another's row is seen to be blocked, and goes on when that has ended.
func TestBlockedActor(t *testing.T) {
	t.Parallel()
	ctx, s := newStage(t)
	a, b := s.start(ctx, t)
	step := func(actor *explore.Actor) { require.NoError(t, s.director.Step(ctx, actor)) }
	step(a)
	step(a)
	step(b)
	step(b) // its write waits for a's
	require.Equal(t, []*explore.Actor{a}, s.director.Waiting())
	require.Equal(t, 2, s.director.Active())
	step(a) // commits
	require.True(t, a.Ended())
	require.Equal(t, []*explore.Actor{b}, s.director.Waiting())
	require.Equal(t, "commit", b.At())
	step(b)
	require.Zero(t, s.director.Active())
	require.Equal(t, "A: read → n = 0", s.director.Trace()[0].String())
	require.Equal(t, "B: write → waits for another", s.director.Trace()[3].String())
}

// A killed session leaves nothing behind, wherever it stands, and its successor stops at its gates again.
func TestKilledActor(t *testing.T) {
	t.Parallel()
	ctx, s := newStage(t)
	for steps := range 3 {
		a, b := s.start(ctx, t)
		for range steps {
			require.NoError(t, s.director.Step(ctx, a))
		}
		before := s.counter(ctx, t)
		require.NoError(t, s.director.Kill(ctx, a))
		require.True(t, a.Ended())
		require.Error(t, a.Err)
		require.Equal(t, before, s.counter(ctx, t))
		for _, gate := range []string{"read", "write", "commit"} {
			require.Equal(t, gate, b.At())
			require.NoError(t, s.director.Step(ctx, b))
		}
		require.Equal(t, before+1, s.counter(ctx, t))
	}
	a, b := s.start(ctx, t)
	require.NoError(t, s.director.KillDuring(ctx, a))
	require.True(t, a.Ended())
	require.NoError(t, s.director.Steps(ctx, b, []string{"read", "write"}))
	require.Equal(t, "commit", b.At())
	require.NoError(t, s.director.Step(ctx, b))
}

// The gates stand where the code says, or the test that wants them fails.
func TestPlacesFollowTheCode(t *testing.T) {
	t.Parallel()
	ctx, s := newStage(t)
	install := func(place explore.Place, swaps ...explore.Swap) error {
		_, err := s.admin.Exec(ctx, `DROP FUNCTION `+s.schema+`.gate; DROP FUNCTION `+s.schema+`.gate_with`)
		require.NoError(t, err)
		return explore.Install(ctx, s.admin, s.schema, []explore.Place{place}, swaps)
	}
	require.ErrorContains(t, install(explore.Place{Function: "count_up", Before: "DELETE", Gate: "x"}), "0 times")
	require.ErrorContains(t, install(explore.Place{Function: "count_up", Before: "v_n", Gate: "x"}), "times")
	require.ErrorContains(t, install(explore.Place{Function: "none", Before: "v_n", Gate: "x"}), "none")
	require.NoError(t, install(explore.Place{Function: "count_up", Around: "v_n + 1", Gate: "x"}, explore.Swap{Function: "count_up", Old: "RETURN v_n + 1;", New: "RETURN 7;"}))
}

// A gate within a statement hands its value on, and an actor that takes other steps than was said is noticed.
func TestGateWithinAStatement(t *testing.T) {
	t.Parallel()
	ctx, s := newStage(t, explore.Swap{Function: "count_up", Old: "RETURN v_n + 1;", New: "RETURN {{schema}}.gate_with('answer', v_n + 1);"})
	a, _ := s.start(ctx, t)
	require.NoError(t, s.director.Steps(ctx, a, []string{"read", "write"}))
	require.Equal(t, "answer", a.At())
	require.Equal(t, "1", a.Detail())
	require.ErrorContains(t, s.director.Steps(ctx, a, []string{"write"}), `is at gate "answer"`)
}
