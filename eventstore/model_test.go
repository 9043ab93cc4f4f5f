package eventstore_test

import (
	"cmp"
	"errors"
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// modelEvent is an event as the model of the log keeps it.
type modelEvent struct {
	stream   eventstore.StreamID
	version  eventstore.Version
	id       uuid.UUID
	text     string
	recorded time.Time
}

// logModel is the log in memory: the events in the order they were written.
type logModel struct {
	now    time.Time
	events []modelEvent
}

const modelSkew = time.Minute

func (m *logModel) stream(id eventstore.StreamID) (events []modelEvent) {
	for _, e := range m.events {
		if e.stream == id {
			events = append(events, e)
		}
	}
	return events
}

// modelVerdict is what the model answers to an append of one stream.
type modelVerdict struct {
	err      error // a sentinel
	repeated bool
	version  eventstore.Version // of the last event, at a conflict the stream's
	recorded time.Time
}

// known says whether the ids stand in the stream in a row, written together: then the append is a repetition.
func (m *logModel) known(id eventstore.StreamID, ids []uuid.UUID, at eventstore.Version) (v modelVerdict, some bool) {
	var found []modelEvent
	for n, want := range ids {
		for _, e := range m.stream(id) {
			if e.id == want && (at < 0 || e.version == at+eventstore.Version(n+1)) {
				found = append(found, e)
			}
		}
	}
	if len(found) == 0 {
		return modelVerdict{}, false
	}
	for n, e := range found {
		if len(found) < len(ids) || e.version != found[0].version+eventstore.Version(n) || e.recorded != found[0].recorded {
			return modelVerdict{err: eventstore.ErrPartialRetry}, true
		}
	}
	last := found[len(found)-1]
	return modelVerdict{repeated: true, version: last.version, recorded: last.recorded}, true
}

// judge says what an append to one stream must answer, recorded not before at.
func (m *logModel) judge(a eventstore.StreamAppend, at time.Time) modelVerdict {
	ids := idsOf([]eventstore.StreamAppend{a})
	events := m.stream(a.StreamID)
	head := eventstore.Version(len(events))
	if a.Expected >= 0 && eventstore.Version(a.Expected) != head || a.Expected == eventstore.StreamExists && head == 0 {
		if v, some := m.known(a.StreamID, ids, eventstore.Version(max(a.Expected, 0))); a.Expected >= 0 && some {
			return v
		}
		return modelVerdict{err: eventstore.ErrConflict, version: head}
	}
	if head > 0 {
		at = latestOf(at, events[head-1].recorded)
	}
	if at.After(m.now.Add(modelSkew)) {
		return modelVerdict{err: eventstore.ErrClock}
	}
	if v, some := m.known(a.StreamID, ids, -1); some {
		return v
	}
	return modelVerdict{version: head + eventstore.Version(len(ids)), recorded: at}
}

func latestOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// write appends to one stream or several, all or nothing, at one time.
func (m *logModel) write(appends []eventstore.StreamAppend) ([]modelVerdict, error) {
	at := m.now
	if len(appends) > 1 {
		for _, a := range appends {
			if events := m.stream(a.StreamID); len(events) > 0 {
				at = latestOf(at, events[len(events)-1].recorded)
			}
		}
		if at.After(m.now.Add(modelSkew)) {
			return nil, eventstore.ErrClock
		}
	}
	sorted := slices.SortedFunc(slices.Values(appends), func(a, b eventstore.StreamAppend) int { return cmp.Compare(a.StreamID, b.StreamID) })
	verdicts := map[eventstore.StreamID]modelVerdict{}
	for _, a := range sorted {
		v := m.judge(a, at)
		if v.err != nil {
			return []modelVerdict{v}, v.err
		}
		if verdicts[a.StreamID] = v; v.repeated != verdicts[sorted[0].StreamID].repeated {
			return nil, eventstore.ErrPartialRetry
		}
	}
	for _, a := range sorted {
		v := verdicts[a.StreamID]
		for n, event := range a.Events {
			if e := event.(eventstore.Event); !v.repeated {
				m.events = append(m.events, modelEvent{
					stream: a.StreamID, version: v.version - eventstore.Version(len(a.Events)-1-n), id: e.ID,
					text: e.Data.(note).Text, recorded: v.recorded,
				})
			}
		}
	}
	var out []modelVerdict
	for _, a := range appends {
		out = append(out, verdicts[a.StreamID])
	}
	return out, nil
}

// machine drives a log and its model with the same calls.
type machine struct {
	t     *testing.T
	log   testLog
	model logModel
	last  [][]eventstore.StreamAppend // what can be repeated
}

var modelStreams = []eventstore.StreamID{"a-1", "a-2", "b-1", "c-1"} //nolint:gochecknoglobals // a constant that Go cannot write

// draw makes an append: mostly of new ids, to a stream where it is or is not.
func (m *machine) draw(t *rapid.T, id eventstore.StreamID, known bool) eventstore.StreamAppend {
	a := eventstore.StreamAppend{StreamID: id}
	head := len(m.model.stream(id))
	switch rapid.IntRange(0, 5).Draw(t, "expected") {
	case 0:
		a.Expected = eventstore.NoStream
	case 1:
		a.Expected = eventstore.Any
	case 2:
		a.Expected = eventstore.StreamExists
	case 3:
		a.Expected = eventstore.AtVersion(eventstore.Version(rapid.IntRange(0, head+1).Draw(t, "version")))
	default:
		a.Expected = eventstore.AtVersion(eventstore.Version(head))
	}
	for range rapid.IntRange(1, 5).Draw(t, "events") {
		id := uuid.Must(uuid.NewV7())
		if written := m.model.stream(a.StreamID); known && len(written) > 0 && rapid.IntRange(0, 9).Draw(t, "an id of the stream") == 0 {
			id = written[rapid.IntRange(0, len(written)-1).Draw(t, "which")].id
		}
		if !slices.Contains(idsOf([]eventstore.StreamAppend{a}), id) {
			a.Events = append(a.Events, notesWith(id)...)
		}
	}
	return a
}

// drawCall draws an append to one stream or to several, or one to repeat. known lets single events have ids of their stream.
func (m *machine) drawCall(t *rapid.T, known bool) []eventstore.StreamAppend {
	if n := len(m.last); n > 0 && rapid.IntRange(0, 3).Draw(t, "repeat") == 0 {
		return m.last[rapid.IntRange(0, n-1).Draw(t, "which call")]
	}
	n := 1
	if rapid.IntRange(0, 2).Draw(t, "many") == 0 {
		n = rapid.IntRange(2, 3).Draw(t, "streams")
	}
	ids := rapid.Permutation(modelStreams).Draw(t, "order")[:n]
	var appends []eventstore.StreamAppend
	for _, id := range ids {
		appends = append(appends, m.draw(t, id, known && n == 1))
	}
	return appends
}

// call makes the same append in the log and in the model, and compares what they say.
func (m *machine) call(t *rapid.T, store *eventstore.Store, model *logModel, appends []eventstore.StreamAppend) {
	receipts, err := appendTo(m.t.Context(), store, appends)
	want, wantErr := model.write(appends)
	if wantErr != nil {
		require.ErrorIs(t, err, wantErr)
		var conflict *eventstore.ConflictError
		if errors.As(err, &conflict) {
			require.Equal(t, want[0].version, conflict.Actual)
		}
		return
	}
	require.NoError(t, err)
	for i, receipt := range receipts {
		require.Equal(t, appends[i].StreamID, receipt.StreamID)
		require.Equal(t, want[i].version, receipt.Version)
		require.Equal(t, want[i].repeated, receipt.Repeated)
		require.Equal(t, want[i].recorded, receipt.RecordedAt)
		require.Equal(t, idsOf(appends[i:i+1]), receipt.EventIDs)
		require.Len(t, receipt.Positions, len(receipt.EventIDs))
	}
	m.last = append(m.last, appends)
}

// actions are the steps of the machine.
func (m *machine) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"append": func(t *rapid.T) { m.call(t, m.log.Store, &m.model, m.drawCall(t, true)) },
		"transaction": func(t *rapid.T) {
			tx, err := m.log.Pool.Begin(m.t.Context())
			require.NoError(t, err)
			defer func() { _ = tx.Rollback(m.t.Context()) }()
			inside, before := m.model, slices.Clone(m.last)
			inside.events = slices.Clone(m.model.events)
			for range rapid.IntRange(1, 3).Draw(t, "appends") {
				kept := m.model
				m.model = inside // what the transaction sees is drawn from
				appends := m.drawCall(t, false)
				m.model = kept
				m.call(t, m.log.WithTx(tx), &inside, appends)
			}
			if rapid.Bool().Draw(t, "commit") {
				require.NoError(t, tx.Commit(m.t.Context()))
				m.model = inside
			} else {
				m.last = before
			}
		},
		"time": func(t *rapid.T) {
			step := rapid.SampledFrom([]time.Duration{
				time.Microsecond, time.Second, -time.Microsecond, -40 * time.Second, -2 * time.Minute, time.Hour, 20 * 24 * time.Hour,
			}).Draw(t, "step")
			m.model.now = m.model.now.Add(step)
		},
	}
}

// compare reads everything in each way and shows that it is the model's.
func (m *machine) compare(t *rapid.T) {
	ctx := m.t.Context()
	for _, id := range modelStreams {
		want := m.model.stream(id)
		var forward, backward []eventstore.Recorded
		for event, err := range m.log.Stream(ctx, id, 0) {
			require.NoError(t, err)
			forward = append(forward, event)
		}
		for event, err := range m.log.Backward(ctx, id, 0) {
			require.NoError(t, err)
			backward = append(backward, event)
		}
		m.requireSame(t, want, forward)
		slices.Reverse(backward)
		m.requireSame(t, want, backward)
		head, err := m.log.Head(ctx, id)
		if len(want) == 0 {
			require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, want[len(want)-1].version, head.Version)
		require.Equal(t, want[0].recorded, head.FirstRecordedAt)
	}
	middle := m.model.now.Add(-24 * time.Hour)
	for _, filter := range []eventstore.Filter{
		{},
		{Categories: []string{"a"}},
		{Categories: []string{"b", "c"}, Types: []string{"note"}},
		{Recorded: eventstore.TimeRange{From: middle}},
		{Recorded: eventstore.TimeRange{Until: middle}},
	} {
		m.compareLog(t, filter)
	}
}

// compareLog reads the log through a filter, at once and by pages.
func (m *machine) compareLog(t *rapid.T, filter eventstore.Filter) {
	var want []modelEvent
	for _, e := range m.model.events {
		inCategory := len(filter.Categories) == 0 || slices.Contains(filter.Categories, e.stream.Category())
		if inCategory && (filter.Recorded.From.IsZero() || !e.recorded.Before(filter.Recorded.From)) &&
			(filter.Recorded.Until.IsZero() || e.recorded.Before(filter.Recorded.Until)) {
			want = append(want, e)
		}
	}
	var all, paged []eventstore.Recorded
	for event, err := range m.log.All(m.t.Context(), 0, filter) {
		require.NoError(t, err)
		all = append(all, event)
	}
	m.requireSame(t, want, all)
	require.True(t, slices.IsSortedFunc(all, func(a, b eventstore.Recorded) int { return cmp.Compare(a.Position, b.Position) }))
	query := eventstore.PageQuery{Limit: 4, Filter: filter}
	for more := true; more; {
		page, err := m.log.Page(m.t.Context(), query)
		require.NoError(t, err)
		paged = append(paged, page.Events...)
		query.After, more = page.Next, page.More
	}
	m.requireSame(t, want, paged)
}

func (m *machine) requireSame(t *rapid.T, want []modelEvent, got []eventstore.Recorded) {
	require.Len(t, got, len(want))
	for i, e := range want {
		require.Equal(t, e, modelEvent{
			stream: got[i].StreamID, version: got[i].Version, id: got[i].ID, text: got[i].Data.(note).Text,
			recorded: got[i].RecordedAt,
		})
	}
}

// Guarantees 1, 2, 5, 7 and 11: whatever is appended in whatever order, to one stream or several, repeated, refused, rolled
// back, under a clock that goes on, back, and over month ends, the log answers and holds what a log in memory does.
func TestTheLogIsItsModel(t *testing.T) {
	for name, few := range map[string]string{ // rapid counts on cheap checks
		"rapid.checks": "6", "rapid.shrinktime": "10s", "rapid.nofailfile": "true",
	} {
		if !flagGiven(name) {
			before := flag.Lookup(name).Value.String()
			require.NoError(t, flag.Set(name, few))
			defer func() { require.NoError(t, flag.Set(name, before)) }()
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		m := &machine{t: t, model: logModel{now: time.Date(2031, 1, 31, 23, 59, 58, 0, time.UTC)}}
		opened, err := eventstoretest.Open(t.Context(), eventstore.Config{
			Codec: noteCodec(t), MaxClockSkew: modelSkew, PageSize: 3, Clock: func() time.Time { return m.model.now },
		})
		require.NoError(rt, err)
		defer func() { require.NoError(rt, opened.Close(t.Context())) }()
		m.log = testLog{opened}
		rt.Repeat(m.actions())
		m.compare(rt)
	})
}

func flagGiven(name string) (given bool) {
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	return given
}
