package eventstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/internal/devdb"
	"github.com/sight-platform/hindsight/internal/explore"
)

// maxAppenders is how many appenders a scenario may have. The actors are A, B, C, D and the reader R.
const maxAppenders = 4

// world is a log whose functions have gates, with the sessions that go through its interleavings one after the other. The
// log is never emptied (it refuses that): each interleaving has streams of its own and begins where the last one ended.
type world struct {
	schema   string
	director *explore.Director
	pools    []*pgxpool.Pool     // of the actors, a session each
	stores   []*eventstore.Store // on them
	plain    *eventstore.Store   // without gates
	admin    *pgx.Conn
	fewStore *eventstore.Store // the reader's, with small pages
	runs     int
	streams  map[eventstore.StreamID]eventstore.Version // where each stream stands
	cursor   eventstore.Position                        // the last event the reader was given
	mark     eventstore.Cursor                          // the same, for a reader elsewhere
}

// exploreCluster is a server for these tests: the suite's own need not allow prepared transactions.
func exploreCluster(ctx context.Context, t *testing.T) *devdb.Cluster {
	t.Helper()
	cluster, err := devdb.StartCluster(ctx, map[string]string{
		"fsync": "off", "full_page_writes": "off", "max_prepared_transactions": "20", "deadlock_timeout": "20ms",
		"max_connections": "80", "max_pred_locks_per_transaction": "10", // pg_locks takes as long as its tables are large
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	return cluster
}

// newWorld makes a log in a schema of its own and puts gates, after the mutations, into its functions.
func newWorld(ctx context.Context, t *testing.T, cluster *devdb.Cluster, schema string, swaps ...explore.Swap) *world {
	t.Helper()
	w := &world{schema: schema, streams: map[eventstore.StreamID]eventstore.Version{}}
	open := func(pool *pgxpool.Pool, pageSize int) *eventstore.Store {
		store, err := eventstore.New(pool, eventstore.Config{Schema: schema, Codec: noteCodec(t), PageSize: pageSize, PollInterval: time.Millisecond})
		require.NoError(t, err)
		return store
	}
	w.plain = open(eventstoretest.Pool(t, cluster.URL()), 0)
	require.NoError(t, w.plain.Migrate(ctx))
	var err error
	w.admin, err = pgx.Connect(ctx, cluster.URL())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.admin.Close(context.WithoutCancel(ctx))) })
	require.NoError(t, explore.Install(ctx, w.admin, schema, protocolPlaces(), swaps))

	w.director, err = explore.NewDirector(ctx, cluster.URL(), schema, "A", "B", "C", "D", "R")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.director.Close(context.WithoutCancel(ctx))) })
	for _, actor := range w.director.Actors() {
		pool := eventstoretest.Pool(t, cluster.URL(), func(config *pgxpool.Config) {
			actor.Attach(config)
			config.ConnConfig.Tracer = clientGates{actor}
		})
		w.pools = append(w.pools, pool)
		w.stores = append(w.stores, open(pool, 0))
	}
	w.fewStore = open(w.pools[maxAppenders], 2)
	for i := range maxAppenders + 1 {
		w.appendPlain(ctx, t, oldStream(i))
	}
	for _, small := range []bool{false, true} { // a store's first look learns the months, in more steps than later ones
		_, err := w.run(ctx, scenario{reader: readerAll, surveys: 1, small: small}, inOrder(nil))
		require.NoError(t, err)
	}
	return w
}

// oldStream exists before the first interleaving; the last of them is shared by the appenders.
func oldStream(i int) eventstore.StreamID { return eventstore.StreamID(fmt.Sprintf("old-%d", i)) }

func (w *world) appendPlain(ctx context.Context, t *testing.T, id eventstore.StreamID) {
	t.Helper()
	_, err := w.plain.Append(ctx, id, eventstore.NoStream, note{"plain"})
	require.NoError(t, err)
	w.streams[id] = 1
	require.NoError(t, w.drain(ctx, &reading{}))
}

// scenario is what the actors are about to do, in whatever order.
type scenario struct {
	plans   []plan
	reader  readerKind
	surveys int  // how often the reader looks, before everything has ended
	small   bool // pages of two events
	burnt   bool // the reader begins below the end of the sequence: an append was rolled back before
}

func (s scenario) String() string {
	names := make([]string, 0, len(s.plans)+1)
	for _, p := range s.plans {
		names = append(names, p.String())
	}
	reader := fmt.Sprintf("%s × %d", s.reader, s.surveys)
	if s.small {
		reader += ", pages of two"
	}
	if s.burnt {
		reader += ", after a hole"
	}
	return strings.Join(append(names, reader), " | ")
}

// chooser says who of those that could goes next, and through which gates inside functions at once; nil: one step.
type chooser func(ready []*explore.Actor) (*explore.Actor, []string)

// inOrder follows a list of actors as far as they are ready; then each goes on as long as it can.
func inOrder(order []int) chooser {
	last := -1
	return func(ready []*explore.Actor) (*explore.Actor, []string) {
		for len(order) > 0 {
			next := order[0]
			order = order[1:]
			if i := slices.IndexFunc(ready, func(a *explore.Actor) bool { return a.Index == next }); i >= 0 {
				last = next
				return ready[i], nil
			}
		}
		if i := slices.IndexFunc(ready, func(a *explore.Actor) bool { return a.Index == last }); i >= 0 {
			return ready[i], nil
		}
		last = ready[0].Index
		return ready[0], nil
	}
}

// asPlanned follows a list of steps. Neighbours of one actor go together, where the director need not see what is between.
func asPlanned(order []explore.Step) chooser {
	return func(ready []*explore.Actor) (*explore.Actor, []string) {
		if len(order) == 0 {
			return ready[0], nil
		}
		next := order[0]
		i := slices.IndexFunc(ready, func(a *explore.Actor) bool { return a.Index == next.Actor })
		if i < 0 {
			order = nil // it is blocked, which was not planned; the trace will tell
			return ready[0], nil
		}
		var names []string
		for len(order) > 0 && order[0].Actor == next.Actor && (len(names) == 0 || runsThrough(order[0].Name)) {
			names = append(names, order[0].Name)
			order = order[1:]
			if !runsThrough(names[0]) {
				return ready[i], nil
			}
		}
		return ready[i], names
	}
}

// runsThrough says whether a gate is inside a function, and nobody has to do anything there.
func runsThrough(gate string) bool {
	switch gate {
	case gateHead, gateHeads, gateNewHeads, gateLast, gateFence, gateNextval, gateMore, gateInsert, gateH, gateFences:
		return true
	}
	return false
}

// atRandom draws who goes next; how readily it leaves one actor for another is drawn once, because some mistakes show only
// when one stands still while the others do much.
func atRandom(random *rand.Rand) chooser {
	stay := pick(random, 0, 0.5, 0.8, 0.9)
	last := -1
	return func(ready []*explore.Actor) (*explore.Actor, []string) {
		next := ready[random.IntN(len(ready))]
		if i := slices.IndexFunc(ready, func(a *explore.Actor) bool { return a.Index == last }); i >= 0 && random.Float64() < stay {
			next = ready[i]
		}
		last = next.Index
		return next, nil
	}
}

// visit is an interleaving that was gone through.
type visit struct {
	trace []explore.Done
	skip  string // how the reader missed, doubled or misplaced events; "" if it did not
	fault string // any other broken promise
}

func (v visit) order() []int {
	order := make([]int, len(v.trace))
	for i, done := range v.trace {
		order[i] = done.Actor
	}
	return order
}

func (v visit) steps() []explore.Step {
	steps := make([]explore.Step, len(v.trace))
	for i, done := range v.trace {
		steps[i] = done.Step
	}
	return steps
}

func (v visit) String() string {
	var text strings.Builder
	for i, done := range v.trace {
		fmt.Fprintf(&text, "%4d  %s\n", i+1, done)
	}
	return text.String()
}

// maxSteps bounds an interleaving: a follower could look for ever for what it has missed.
const maxSteps = 400

// run goes through one interleaving of a scenario. An error says that the explorer itself could not go on.
func (w *world) run(ctx context.Context, sc scenario, choose chooser) (visit, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.runs++
	w.director.Reset()
	if sc.burnt {
		if _, err := w.admin.Exec(ctx, `SELECT nextval('`+w.schema+`.events_position_seq')`); err != nil {
			return visit{}, err
		}
	}
	r := &reading{start: w.cursor, surveys: sc.surveys, small: sc.small}
	actors := w.director.Actors()
	appenders := make([]*appending, len(sc.plans))
	for i, p := range sc.plans {
		appenders[i] = w.newAppending(actors[i], p)
		if p.ending == endNothing {
			continue
		}
		if err := w.director.Start(ctx, actors[i], appenders[i].program); err != nil {
			return visit{}, err
		}
	}
	if sc.reader != noReader {
		if err := w.director.Start(ctx, actors[maxAppenders], w.program(sc.reader, actors[maxAppenders], r)); err != nil {
			return visit{}, err
		}
	}
	if err := w.steps(ctx, sc, appenders, r, choose); err != nil {
		return visit{trace: w.director.Trace()}, err
	}
	v := visit{trace: w.director.Trace()}
	err := w.check(ctx, appenders, r, &v)
	return v, err
}

// steps lets the actors go, one at a time, until all have ended.
func (w *world) steps(ctx context.Context, sc scenario, appenders []*appending, r *reading, choose chooser) error {
	reader := w.director.Actors()[maxAppenders]
	for steps := 0; w.director.Active() > 0; steps++ {
		if steps > maxSteps {
			return fmt.Errorf("the interleaving has no end")
		}
		ready := w.ready(appenders, sc.reader)
		if len(ready) == 0 {
			if err := w.director.Unblock(ctx); err != nil {
				return err
			}
			continue
		}
		a, through := choose(ready)
		var err error
		switch {
		case len(through) > 0:
			err = w.director.Steps(ctx, a, through)
			if a != reader {
				appenders[a.Index].steps += len(through)
			}
		case a == reader:
			err = w.director.Step(ctx, a)
		default:
			err = appenders[a.Index].step(ctx, w.director)
		}
		if err != nil {
			return err
		}
		if a == reader && reader.At() == gateProbe {
			if err := r.noteClaim(reader.Detail(), appenders); err != nil {
				return err
			}
		}
		if sc.reader == readerFollow && r.sentinel.Load() == 0 && w.director.Active() == 1 && reader.At() != "" {
			if err := w.appendSentinel(ctx, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// ready are the actors that may go on: a slow appender does not commit before everybody else is done, but for a follower,
// which never is.
func (w *world) ready(appenders []*appending, reader readerKind) []*explore.Actor {
	waiting := w.director.Waiting()
	parked := func(a *explore.Actor) bool {
		return a.Index < len(appenders) && appenders[a.Index].plan.ending == endSlow && a.At() == gateCommit
	}
	for _, a := range waiting {
		if !parked(a) && (a.Index < maxAppenders || reader != readerFollow) {
			return slices.DeleteFunc(waiting, parked)
		}
	}
	return waiting
}
