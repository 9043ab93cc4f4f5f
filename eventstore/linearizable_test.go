package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
)

// operation is what a client asked of one stream. Events are texts that no other append has.
type operation struct {
	stream   eventstore.StreamID
	read     string // "head" or "stream"; empty for an append
	expected eventstore.Expected
	events   []string
	ids      []uuid.UUID
}

// result is what it was told.
type result struct {
	version  eventstore.Version // after an append, at a conflict, or of the head; 0 if there is no stream
	conflict bool
	unknown  bool   // the append happened, at some time, and nobody told the client at which version
	events   string // of a stream, joined
}

// streamModel is one stream as a sequence of events, the whole contract of Append, Head and Stream: its state is their
// texts, joined.
func streamModel() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			streams := map[eventstore.StreamID][]porcupine.Operation{}
			for _, o := range history {
				id := o.Input.(operation).stream
				streams[id] = append(streams[id], o)
			}
			var out [][]porcupine.Operation
			for _, part := range streams {
				out = append(out, part)
			}
			return out
		},
		Init: func() any { return "" },
		Step: func(state, input, output any) (bool, any) {
			return stepStream(state.(string), input.(operation), output.(result))
		},
		DescribeOperation: func(input, output any) string {
			in, out := input.(operation), output.(result)
			if in.read != "" {
				return fmt.Sprintf("%s: version %d %s", in.read, out.version, out.events)
			}
			return fmt.Sprintf("append %v at %s: version %d, conflict %v, unknown %v", in.events, in.expected, out.version, out.conflict, out.unknown)
		},
	}
}

func stepStream(state string, in operation, out result) (bool, any) {
	version := eventstore.Version(strings.Count(state, ";"))
	switch in.read {
	case "head":
		return out.version == version, state
	case "stream":
		return out.events == state, state
	}
	fits := in.expected == eventstore.Any || in.expected == eventstore.StreamExists && version > 0 ||
		in.expected >= 0 && eventstore.Version(in.expected) == version
	if out.conflict {
		return !fits && out.version == version, state
	}
	ok := fits && (out.unknown || out.version == version+eventstore.Version(len(in.events)))
	return ok, state + joined(in.events)
}

func joined(events []string) (out string) {
	for _, event := range events {
		out += event + ";"
	}
	return out
}

// recorder keeps a history. Its times are those of one process's monotonic clock.
type recorder struct {
	started time.Time
	next    atomic.Int64 // numbers the events

	mu      sync.Mutex
	history []porcupine.Operation
	open    []porcupine.Operation // appends of unknown outcome
}

// run executes an operation and records it.
func (r *recorder) run(ctx context.Context, store *eventstore.Store, client int, in operation, random *rand.Rand) error {
	o := porcupine.Operation{ClientId: client, Input: in, Call: int64(time.Since(r.started))}
	if in.read == "" && random.IntN(5) == 0 { // impatient: nobody may be told
		short, cancel := context.WithTimeout(ctx, time.Duration(random.IntN(4000))*time.Microsecond)
		defer cancel()
		ctx = short
	}
	out, err := execute(ctx, store, in)
	if errors.Is(err, eventstore.ErrOutcomeUnknown) && random.IntN(2) == 0 { // the repetition belongs to the same operation
		out, err = execute(context.WithoutCancel(ctx), store, in)
	}
	o.Return, o.Output = int64(time.Since(r.started)), out
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case errors.Is(err, eventstore.ErrOutcomeUnknown):
		r.open = append(r.open, o)
	case errors.Is(err, context.DeadlineExceeded): // nothing was written: it did not happen
	case err != nil:
		return err
	default:
		r.history = append(r.history, o)
	}
	return nil
}

func execute(ctx context.Context, store *eventstore.Store, in operation) (out result, err error) {
	switch in.read {
	case "head":
		head, err := store.Head(ctx, in.stream)
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return result{}, nil
		}
		return result{version: head.Version}, err
	case "stream":
		for event, err := range store.Stream(ctx, in.stream, 0) {
			if err != nil {
				return result{}, err
			}
			out.events += event.Data.(note).Text + ";"
		}
		return out, nil
	}
	events := make([]any, len(in.events))
	for i, text := range in.events {
		events[i] = eventstore.Event{ID: in.ids[i], Data: note{text}}
	}
	receipt, err := store.Append(ctx, in.stream, in.expected, events...)
	var conflict *eventstore.ConflictError
	if errors.As(err, &conflict) {
		return result{conflict: true, version: conflict.Actual}, nil
	}
	return result{version: receipt.Version}, err
}

// operation draws what a client asks next.
func (r *recorder) operation(random *rand.Rand, streams int) operation {
	in := operation{stream: stream(random.IntN(streams))}
	switch random.IntN(8) {
	case 0:
		in.read = "head"
	case 1:
		in.read = "stream"
	case 2:
		in.expected = eventstore.NoStream
	case 3:
		in.expected = eventstore.StreamExists
	case 4, 5:
		in.expected = eventstore.Any
	default: // the caller finds out which
		in.expected = eventstore.AtVersion(1)
	}
	for range 1 + random.IntN(3) {
		in.events = append(in.events, fmt.Sprint(r.next.Add(1)))
		in.ids = append(in.ids, uuid.Must(uuid.NewV7()))
	}
	return in
}

// record lets clients of two stores work on a few streams at once, and returns their history.
func record(t *testing.T, seed uint64) []porcupine.Operation {
	t.Helper()
	const clients, operations, streams = 10, 40, 4
	log := newLog(t, eventstore.Config{})
	stores := []*eventstore.Store{log.Store, log.store(t, log.pool(t, nil), eventstore.Config{})}
	r := &recorder{started: time.Now()}
	require.NoError(t, errors.Join(atOnce(clients, func(client int) error {
		random := rand.New(rand.NewPCG(seed, uint64(client)))
		for range operations {
			in := r.operation(random, streams)
			if in.read == "" && in.expected > 0 {
				head, err := stores[client%2].Head(t.Context(), in.stream)
				if err != nil && !errors.Is(err, eventstore.ErrStreamNotFound) {
					return err
				}
				guess := []eventstore.Version{0, 0, 0, 0, -1, 1}[random.IntN(6)]
				in.expected = eventstore.AtVersion(max(0, head.Version+guess))
			}
			if err := r.run(t.Context(), stores[client%2], client, in, random); err != nil {
				return err
			}
		}
		return nil
	})...))
	return r.close(t, log, streams)
}

// close reads the streams once more, when nothing is under way, and settles what nobody was told: an append whose events are
// there took place at some time, one whose are not never did.
func (r *recorder) close(t *testing.T, log testLog, streams int) []porcupine.Operation {
	t.Helper()
	var appends []eventstore.StreamAppend
	all := ""
	for i := range streams {
		appends = append(appends, eventstore.StreamAppend{StreamID: stream(i)})
	}
	log.requireQuiet(t, appends)
	for i := range streams {
		in := operation{stream: stream(i), read: "stream"}
		require.NoError(t, r.run(t.Context(), log.Store, 0, in, rand.New(rand.NewPCG(0, 0))))
		all += ";" + r.history[len(r.history)-1].Output.(result).events
	}
	happened := 0
	for _, o := range r.open {
		if strings.Contains(all, ";"+joined(o.Input.(operation).events)) {
			o.Return, o.Output = int64(time.Since(r.started)), result{unknown: true}
			r.history = append(r.history, o)
			happened++
		}
	}
	t.Logf("%d operations; of %d more nobody was told the outcome, %d took place", len(r.history), len(r.open), happened)
	return r.history
}

// checkTimeout bounds the search for an order: it takes milliseconds.
const checkTimeout = 30 * time.Second

// Guarantees 1, 11 and 12: over one stream, whatever two processes append and read at once, with every expectation, with
// contexts that end and with repetitions, looks as if the calls had been made one after the other, each at some moment
// between its begin and its end.
func TestStreamsAreLinearizable(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for round := range uint64(3) {
		history := record(t, seed+round)
		verdict, info := porcupine.CheckOperationsVerbose(streamModel(), history, checkTimeout)
		if verdict != porcupine.Ok {
			file := filepath.Join(os.TempDir(), fmt.Sprintf("linearizable-%d.html", seed+round))
			require.NoError(t, porcupine.VisualizePath(streamModel(), info, file))
			require.Equal(t, porcupine.Ok, verdict, "see %s", file)
		}
	}
}

// The check above would notice a store that lies, in any single answer.
func TestTheLinearizabilityCheckIsNotEmpty(t *testing.T) {
	t.Parallel()
	history := record(t, 1)
	require.Equal(t, porcupine.Ok, porcupine.CheckOperationsTimeout(streamModel(), history, checkTimeout))
	lies := map[string]func(operation, result) (result, bool){
		"a version is given twice": func(in operation, out result) (result, bool) {
			out.version--
			return out, in.read == "" && !out.conflict && !out.unknown
		},
		"an append is lost": func(in operation, out result) (result, bool) {
			return result{conflict: true, version: out.version}, in.read == "" && !out.conflict && !out.unknown
		},
		"a conflict was none": func(in operation, out result) (result, bool) {
			return result{version: out.version + eventstore.Version(len(in.events))}, out.conflict
		},
		"a read misses the last event": func(in operation, out result) (result, bool) {
			cut := strings.LastIndexByte(strings.TrimSuffix(out.events, ";"), ';') + 1
			return result{events: out.events[:cut]}, in.read == "stream" && out.events != ""
		},
		"a head of the past": func(in operation, out result) (result, bool) {
			return result{}, in.read == "head" && out.version > 0
		},
	}
	for name, lie := range lies {
		told := 0
		for i := len(history) - 1; i >= 0 && told < 3; i-- { // the last ones, so that other answers stand against them
			out, ok := lie(history[i].Input.(operation), history[i].Output.(result))
			if !ok {
				continue
			}
			told++
			wrong := slices.Clone(history)
			wrong[i].Output = out
			require.Equal(t, porcupine.Illegal, porcupine.CheckOperationsTimeout(streamModel(), wrong, checkTimeout),
				"%s, and the check lets it pass: %+v", name, history[i])
		}
		require.Positive(t, told, name)
	}
}
