package eventstoretest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
)

// Scenario is a stream as a handler finds it. See [Given].
type Scenario struct {
	tb      testing.TB
	log     *Log
	id      eventstore.StreamID
	version eventstore.Version
}

// Given begins a test of a handler: a new stream with these events (payloads or [eventstore.Event]s; none for no stream).
//
//	eventstoretest.Given(t, log, id, discussionStarted).
//		When(func(ctx context.Context) error { return service.Answer(ctx, id, "The green lid.") }).
//		Then(focusgroup.Response{Text: "The green lid."})
func Given(tb testing.TB, log *Log, id eventstore.StreamID, events ...any) *Scenario {
	tb.Helper()
	s := &Scenario{tb: tb, log: log, id: id}
	if len(events) > 0 {
		receipt, err := log.Append(tb.Context(), id, eventstore.NoStream, events...)
		if err != nil {
			tb.Fatalf("given: %v", err)
		}
		s.version = receipt.Version
	}
	return s
}

// Outcome is what a handler did. See [Scenario.When].
type Outcome struct {
	tb        testing.TB
	id        eventstore.StreamID
	err       error
	appended  []eventstore.Recorded // to the stream
	elsewhere int
	decode    func(eventstore.Raw) (any, error)
}

// When runs the handler.
func (s *Scenario) When(handle func(context.Context) error) *Outcome {
	s.tb.Helper()
	ctx := s.tb.Context()
	before, err := s.log.Settled(ctx)
	if err != nil {
		s.tb.Fatal(err)
	}
	o := &Outcome{tb: s.tb, id: s.id, err: handle(ctx), decode: func(raw eventstore.Raw) (any, error) { return raw, nil }}
	if codec := s.log.Codec(); codec != nil {
		o.decode = codec.Decode
	}
	o.appended = Collect(s.tb, s.log.Stream(ctx, s.id, s.version))
	for _, e := range Collect(s.tb, s.log.All(ctx, before, eventstore.Filter{})) {
		if e.StreamID != s.id {
			o.elsewhere++
		}
	}
	return o
}

// Then checks that the handler succeeded and appended exactly these events to the stream: their types and payloads, as they are
// read back. Of an [eventstore.Event] only Data counts.
func (o *Outcome) Then(events ...any) {
	o.tb.Helper()
	if o.err != nil {
		o.tb.Fatalf("then: the handler failed: %v", o.err)
	}
	want := make([]string, len(events))
	for i, event := range events {
		if e, ok := event.(eventstore.Event); ok {
			event = e.Data
		}
		if raw, ok := event.(eventstore.Raw); ok {
			raw.SchemaVersion = max(raw.SchemaVersion, 1)
			decoded, err := o.decode(raw)
			if err != nil {
				o.tb.Fatalf("then: event %d: %v", i, err)
			}
			event = decoded
		}
		want[i] = o.text(event)
	}
	got := make([]string, len(o.appended))
	for i, event := range o.appended {
		got[i] = o.text(event.Data)
	}
	require.Equal(o.tb, strings.Join(want, "\n"), strings.Join(got, "\n"), "the events appended to %s", o.id)
}

// ThenError checks that the handler failed with an error that matches target, and appended nothing to any stream.
func (o *Outcome) ThenError(target error) {
	o.tb.Helper()
	if o.err == nil || !errors.Is(o.err, target) {
		o.tb.Fatalf("then: the handler's error is %v, want one that matches %v", o.err, target)
	}
	if n := len(o.appended); n > 0 || o.elsewhere > 0 {
		o.tb.Fatalf("then: the handler failed as expected, but appended %d events to %s and %d to other streams", n, o.id, o.elsewhere)
	}
}

// text shows a payload with a line for each of its values, so that a difference is easy to see.
func (o *Outcome) text(payload any) string {
	o.tb.Helper()
	kind := strings.TrimPrefix(fmt.Sprintf("%T", payload), "*")
	if raw, ok := payload.(eventstore.Raw); ok {
		kind, payload = raw.Type, raw.JSON
	}
	data, err := json.MarshalIndent(payload, "", "  ")
	if err != nil {
		o.tb.Fatalf("then: %s: %v", kind, err)
	}
	return kind + " " + string(data)
}
