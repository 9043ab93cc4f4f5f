package explore_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/internal/explore"
)

// Of all orders that differ only by swaps of neighbours that commute, exactly one is visited, whatever commutes.
func TestOneOrderOfEachClass(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		programs := make([][]string, 2+random.IntN(2))
		for actor := range programs {
			for step := range 1 + random.IntN(3) {
				programs[actor] = append(programs[actor], fmt.Sprintf("%d.%d", actor, step))
			}
		}
		together := map[[2]string]bool{}
		dependent := func(a, b explore.Step) bool {
			key := [2]string{min(a.Name, b.Name), max(a.Name, b.Name)}
			if _, drawn := together[key]; !drawn {
				together[key] = random.IntN(2) == 0
			}
			return together[key]
		}
		always := func(a, b explore.Step) bool { return true }
		all := map[string]int{} // classes, and how often each was visited
		for order := range (explore.Space{Programs: programs, Dependent: always}).Interleavings() {
			all[class(order, dependent)] = 0
		}
		for order := range (explore.Space{Programs: programs, Dependent: dependent}).Interleavings() {
			all[class(order, dependent)]++
		}
		for name, visits := range all {
			require.Equal(t, 1, visits, "%v: %s", programs, name)
		}
	}
}

// class names what orders that are equivalent have in common: which of two dependent steps comes first.
func class(order []explore.Step, dependent func(a, b explore.Step) bool) string {
	var pairs []string
	for i, a := range order {
		for _, b := range order[i+1:] {
			if a.Actor != b.Actor && dependent(a, b) {
				pairs = append(pairs, a.Name+"<"+b.Name)
			}
		}
	}
	slices.Sort(pairs)
	return fmt.Sprint(pairs)
}

func TestAllOrdersWhereNothingCommutes(t *testing.T) {
	t.Parallel()
	space := explore.Space{
		Programs:  [][]string{{"a", "b", "c"}, {"d", "e"}, {"f"}},
		Dependent: func(a, b explore.Step) bool { return true },
	}
	require.Len(t, slices.Collect(space.Interleavings()), 60) // 6! / (3! 2! 1!)

	// A lock that "d" waits for while the first actor is between its steps "a" and "c".
	space.Blocked = func(done []explore.Step, next explore.Step) bool {
		return next.Name == "d" && len(done) > 0 && slices.Contains(done, explore.Step{Name: "a"}) && !slices.Contains(done, explore.Step{Name: "c"})
	}
	orders := slices.Collect(space.Interleavings())
	require.NotEmpty(t, orders)
	for _, order := range orders {
		a, c := slices.Index(order, explore.Step{Name: "a"}), slices.Index(order, explore.Step{Name: "c"})
		d := slices.Index(order, explore.Step{Actor: 1, Name: "d"})
		require.False(t, a < d && d < c, "%v", order)
	}
}

func TestShrinkKeepsWhatFails(t *testing.T) {
	t.Parallel()
	list := make([]int, 100)
	for i := range list {
		list[i] = i
	}
	asked := 0
	short := explore.Shrink(list, 1000, func(list []int) bool {
		asked++
		return slices.Contains(list, 17) && slices.Contains(list, 83)
	})
	require.Equal(t, []int{17, 83}, short)

	asked = 0
	explore.Shrink(list, 5, func([]int) bool { asked++; return false })
	require.Equal(t, 5, asked)
}
