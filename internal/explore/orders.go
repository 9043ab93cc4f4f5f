package explore

import (
	"iter"
	"slices"
)

// Step is a step of an actor, by the name of the gate it leaves.
type Step struct {
	Actor int
	Name  string
}

// Space is a set of interleavings.
type Space struct {
	// Programs are the steps of each actor, in their order.
	Programs [][]string
	// Dependent says whether two steps of different actors touch the same thing, so that their order matters. Two that are
	// not dependent must commute: from any state, either order leads to the same state, with the same answers.
	Dependent func(a, b Step) bool
	// Blocked says whether a step would wait for another actor after these ones. Optional.
	Blocked func(done []Step, next Step) bool
}

// Interleavings yields one order of each class of orders that differ only by swaps of neighbours that commute: the
// lexicographic normal form, by number of actor. (An order is in normal form unless a step stands, somewhere before it,
// behind steps that it commutes with, one of them of an actor with a greater number. Each beginning of a normal form is
// one, so the search need not go into any other.) The slice is the caller's.
func (s Space) Interleavings() iter.Seq[[]Step] {
	return func(yield func([]Step) bool) {
		s.extend(make([]int, len(s.Programs)), nil, yield)
	}
}

// extend yields the orders that begin with done; at is how many steps of each actor that takes.
func (s Space) extend(at []int, done []Step, yield func([]Step) bool) bool {
	finished := true
	for actor, program := range s.Programs {
		if at[actor] == len(program) {
			continue
		}
		finished = false
		next := Step{actor, program[at[actor]]}
		if s.redundant(done, next) || s.Blocked != nil && s.Blocked(done, next) {
			continue
		}
		at[actor]++
		more := s.extend(at, append(done, next), yield)
		at[actor]--
		if !more {
			return false
		}
	}
	return !finished || yield(slices.Clone(done))
}

// redundant says whether next could as well have come earlier, before a step of a greater actor.
func (s Space) redundant(done []Step, next Step) bool {
	for _, before := range slices.Backward(done) {
		if before.Actor == next.Actor || s.Dependent(before, next) {
			return false
		}
		if before.Actor > next.Actor {
			return true
		}
	}
	return false
}

// Shrink removes from a list whatever the failure can do without: runs of half its length first, then shorter ones. It
// asks fails at most budget times.
func Shrink[T any](list []T, budget int, fails func([]T) bool) []T {
	for size := max(1, len(list)/2); ; size /= 2 {
		for from := 0; from < len(list); {
			if budget == 0 {
				return list
			}
			budget--
			shorter := slices.Concat(list[:from], list[min(from+size, len(list)):])
			if fails(shorter) {
				list = shorter
			} else {
				from += size
			}
		}
		if size <= 1 {
			return list
		}
	}
}
