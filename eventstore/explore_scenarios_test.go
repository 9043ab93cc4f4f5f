package eventstore_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// family is scenarios whose interleavings are visited, without those that only repeat others (touches).
type family struct {
	name       string
	scenarios  []scenario
	sameStream bool // all append to one stream
	sample     int  // how many of each scenario's a short run visits; 0: all
}

// plainSteps of an append in a transaction: head, last(seq), fence, nextval, insert, commit.
const plainSteps = 6

func two(a, b plan) scenario { return scenario{plans: []plan{a, b}, reader: readerAll, surveys: 1} }

// families are two appenders, and a reader that looks once while they work.
func families() []family {
	done, undone := plainPlan(endCommit), plainPlan(endRollback)
	common := func(p plan) plan { p.stream = sharedStream; return p }
	killed := func(p plan, before, during int) plan { p.kill, p.killDuring = before, during; return p }
	afterHole := two(done, done)
	afterHole.burnt = true
	list := []family{
		{name: "commit | commit", scenarios: []scenario{two(done, done)}},
		{name: "commit | commit, the reader after a hole", sample: 120, scenarios: []scenario{afterHole}},
		{name: "commit | rollback", scenarios: []scenario{two(done, undone)}},
		{name: "the same on one stream", sameStream: true, scenarios: []scenario{
			two(common(done), common(done)), two(common(done), common(undone)), two(common(undone), common(undone)),
		}},
		{name: "prepared | commit", sample: 60, scenarios: []scenario{two(plainPlan(endPrepared), done), two(plainPlan(endPreparedLost), done)}},
		{name: "its own transaction | its own transaction", scenarios: []scenario{two(plainPlan(endAlone), plainPlan(endAlone))}},
	}
	kills := family{name: "killed before each step, and during the commit | commit", sample: 25}
	for step := range plainSteps {
		kills.scenarios = append(kills.scenarios, two(killed(done, step, never), done))
	}
	kills.scenarios = append(kills.scenarios, two(killed(done, never, plainSteps-1), done))
	return append(list, kills)
}

// longFamilies take longer than a run of the suite should.
func longFamilies() []family {
	done := plainPlan(endCommit)
	again, three := two(done, done), two(done, done)
	again.surveys = 2
	three.plans = append(three.plans, done)
	return []family{
		{name: "savepoint rolled back, appended again | commit", scenarios: []scenario{two(plainPlan(endSavepoint), done)}},
		{name: "AppendMany refused, appended again | commit", scenarios: []scenario{two(plainPlan(endRefused), done)}},
		{name: "AppendMany | commit", scenarios: []scenario{two(plainPlan(endMany), done)}},
		{name: "a group's statement | commit", scenarios: []scenario{two(plainPlan(endGroup), done)}},
		{name: "commit | commit, the reader looks twice", scenarios: []scenario{again}},
		{name: "commit | commit | commit", scenarios: []scenario{three}},
	}
}

// randomScenario draws from all that the explorer can do.
func randomScenario(random *rand.Rand) scenario {
	sc := scenario{
		reader:  pick(random, readerAll, readerAll, readerPages, readerFollow, readerStored),
		surveys: 1 + random.IntN(4),
		small:   random.IntN(2) == 0,
		burnt:   random.IntN(4) == 0,
	}
	for range 2 + random.IntN(maxAppenders-1) {
		sc.plans = append(sc.plans, randomPlan(random))
	}
	return sc
}

func randomPlan(random *rand.Rand) plan {
	p := plan{
		ending: pick(random, endCommit, endCommit, endRollback, endSlow, endSlow, endSavepoint, endSavepoint, endSavepointLost, endRefused, endTwice, endPrepared,
			endPreparedLost, endAlone, endAlone, endMany, endGroup, endTogether, endImport, endImportKept),
		stream: pick(random, newStream, newStream, existingStream, sharedStream, sharedStream, sharedNew),
		events: pick(random, 1, 1, 2, 3),
		exact:  random.IntN(4) == 0,
		kill:   never, killDuring: never,
	}
	switch random.IntN(16) { // a new session is slow
	case 0:
		p.kill = random.IntN(2 * plainSteps)
	case 1:
		p.killDuring = random.IntN(2 * plainSteps)
	}
	return p
}

func pick[T any](random *rand.Rand, from ...T) T { return from[random.IntN(len(from))] }

// simpler are scenarios that have less in them than sc, with the same actors.
func simpler(sc scenario) (less []scenario) {
	with := func(change func(*scenario)) {
		other := sc
		other.plans = append([]plan(nil), sc.plans...)
		change(&other)
		if fmt.Sprint(other) != fmt.Sprint(sc) {
			less = append(less, other)
		}
	}
	with(func(s *scenario) { s.burnt = false })
	with(func(s *scenario) { s.small = false })
	with(func(s *scenario) { s.surveys = 1 })
	for i := range sc.plans {
		with(func(s *scenario) { s.plans[i].ending = endNothing })
		with(func(s *scenario) { s.plans[i].events = 1 })
		with(func(s *scenario) { s.plans[i].kill, s.plans[i].killDuring = never, never })
		with(func(s *scenario) { s.plans[i].ending = endCommit })
		with(func(s *scenario) { s.plans[i].stream = newStream })
		with(func(s *scenario) { s.plans[i].exact = false })
	}
	return less
}

// features are what a report counts.
func (s scenario) features() []string {
	list := []string{"reader: " + string(s.reader), fmt.Sprintf("%d appenders", len(s.plans))}
	streams := map[streamKind]int{}
	for _, p := range s.plans {
		list = append(list, string(p.ending))
		if p.kill != never || p.killDuring != never {
			list = append(list, "killed")
		}
		if p.events > 1 {
			list = append(list, "several events in an append")
		}
		if streams[p.stream]++; streams[p.stream] == 2 && (p.stream == sharedStream || p.stream == sharedNew) {
			list = append(list, "several appenders to "+string(p.stream))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
