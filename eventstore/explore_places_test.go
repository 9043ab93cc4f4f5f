package eventstore_test

import (
	"strings"

	"github.com/sight-platform/hindsight/internal/explore"
)

// The gates of the protocol, by the step that leaves them (doc.go). They follow the SQL: change them with it.
const (
	gateHeads    = "heads"     // lock the heads that are there, of an append to many streams
	gateHead     = "head"      // lock and bump the head row, or in a group all that are free
	gateNewHeads = "new heads" // insert those of a group
	gateLast     = "last(seq)" // read L
	gateFence    = "fence"     // lock L; look the month up
	gateNextval  = "nextval"   // take a position
	gateInsert   = "insert"    // insert its event
	gateMore     = "insert, nextval"
	gateAnswer   = "answer" // return; commit, where the append is the transaction
	gateH        = "H"      // read last(seq)
	gateFences   = "fences" // look for fences in flight
	gateProbe    = "probe"  // look for the last event up to S in each leaf, in a new snapshot
)

// Gates of the clients.
const (
	gateCommit      = "commit"
	gateRollback    = "rollback"
	gateSavepoint   = "roll back to savepoint"
	gatePrepare     = "prepare transaction"
	gateEndPrepared = "end prepared"
	gatePage        = "page" // read a page of events
	gateStatement   = "take a snapshot"
	gateBatch       = "batch" // of an import: lock the heads; take the positions
	gateCopy        = "copy"
	gateMove        = "move the sequence"
)

// protocolPlaces is where the installed functions get their gates. Each text must stand there exactly once.
func protocolPlaces() []explore.Place {
	const fence, many, group, insert, settle = "take_fence", "append_many", "append_group", "insert_events", "settled_position"
	places := []explore.Place{
		{Function: fence, Before: "v_last := coalesce(pg_sequence_last_value(c_seq), 0);", Gate: gateLast},
		{Function: fence, Before: "v_done := pg_advisory_xact_lock_shared(", Gate: gateFence, Detail: "'L = ' || v_last"},
		{Function: insert, Before: "WITH written AS (", Gate: gateNextval, Detail: "'fence at ' || p_fence"},
		{
			Function: insert, Around: "nextval('{{schema}}.events_position_seq')",
			Name: "CASE WHEN e.n < cardinality(p_ids) THEN '" + gateMore + "' ELSE '" + gateInsert + "' END",
		},
		{Function: insert, Before: "RETURN v_positions;", Gate: gateAnswer, Detail: "'positions ' || v_positions::text"},
		{Function: many, Before: "SELECT max(h.last_recorded_at) INTO v_latest", Gate: gateHeads},
		{Function: group, Before: "WITH moved AS (", Gate: gateHead},
		{Function: group, Before: "WITH made AS (", Gate: gateNewHeads, Detail: "'heads at ' || o_heads::text"},
		{Function: settle, Before: "o_last := {{schema}}.last_position();", Gate: gateH},
		{Function: settle, Before: "IF p_cursor <> o_last THEN", Gate: gateFences, Detail: "'H = ' || o_last"},
		{Function: settle, Before: "SELECT coalesce(sum(m.revision), 0) INTO o_months", Gate: gateProbe, Detail: "'S = ' || o_settled"},
	}
	for _, one := range []string{"append", "append_at"} {
		places = append(places, []explore.Place{
			{Function: one, Before: "IF p_expected > 0 THEN", Gate: gateHead},
			{Function: one, Before: "INSERT INTO {{schema}}.events (", Gate: gateNextval, Detail: "'fence at ' || v_fence"},
			{Function: one, Around: "nextval('{{schema}}.events_position_seq')", Gate: gateInsert},
			{Function: one, Before: "IF v_position IS NOT NULL THEN", Gate: gateAnswer},
		}...)
	}
	return places
}

// touch is what a step does to something that sessions share.
type touch struct {
	what string
	how  access
}

// access orders steps: two reads commute, and so do two changes that each add or take away something of their own. Nothing
// else does.
type access int

const (
	reads access = iota
	changes
	writes
)

const headRow = "the head row"

// touches is the ground for leaving interleavings out: steps whose touches commute do. What a step does to its own session,
// or to rows that nobody else asks for before its commit, is not shared. A step that is not known touches everything.
func (f family) touches(step string) (list []touch, known bool) {
	const (
		sequence = "the sequence"
		fences   = "the fences held"
		events   = "the events to be seen"
	)
	end := []touch{{fences, changes}, {events, changes}, {headRow, writes}}
	if strings.HasPrefix(step, "killed ") {
		step = gateCommit // it ends the transaction, one way or the other
	}
	switch step {
	case gateHead, gateHeads, gateNewHeads:
		if f.sameStream {
			list = []touch{{headRow, writes}}
		}
	case gateInsert:
	case gateLast, gateH:
		list = []touch{{sequence, reads}}
	case gateNextval, gateMore:
		list = []touch{{sequence, writes}}
	case gateFence, gatePrepare: // to prepare hands the fence from the session to the transaction
		list = []touch{{fences, changes}}
	case gateFences:
		list = []touch{{fences, reads}}
	case gateProbe, gatePage:
		list = []touch{{events, reads}}
	case gateAnswer, gateCommit, gateRollback, gateSavepoint, gateEndPrepared:
		list = end
		if !f.sameStream {
			list = end[:2]
		}
	default:
		return nil, false
	}
	return list, true
}

// dependent says whether the order of two steps matters.
func (f family) dependent(a, b explore.Step) bool {
	ofA, knownA := f.touches(a.Name)
	ofB, knownB := f.touches(b.Name)
	if !knownA || !knownB {
		return true
	}
	for _, x := range ofA {
		for _, y := range ofB {
			if x.what == y.what && (x.how != y.how || x.how == writes) {
				return true
			}
		}
	}
	return false
}

// headHeld says whether a step would wait for the head row of a stream that all appenders share: from its step "head" to
// its end a transaction holds it. (Scenarios at random go into the wait; here it would only repeat what follows it.)
func (f family) headHeld(done []explore.Step, next explore.Step) bool {
	if !f.sameStream || next.Name != gateHead {
		return false
	}
	held := map[int]bool{}
	for _, step := range done {
		list, _ := f.touches(step.Name)
		for _, t := range list {
			if t.what == headRow {
				held[step.Actor] = step.Name == gateHead
			}
		}
	}
	delete(held, next.Actor)
	for _, other := range held {
		if other {
			return true
		}
	}
	return false
}

// space is what there is to visit of a scenario.
func (f family) space(programs [][]string) explore.Space {
	return explore.Space{Programs: programs, Dependent: f.dependent, Blocked: f.headHeld}
}
