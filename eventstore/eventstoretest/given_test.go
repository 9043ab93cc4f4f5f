package eventstoretest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// witness is a testing.TB that keeps the failures to itself.
type witness struct {
	testing.TB
	said string
}

func (w *witness) Helper()                           {}
func (w *witness) Errorf(format string, args ...any) { w.said += fmt.Sprintf(format, args...) }
func (w *witness) Fatalf(format string, args ...any) { w.Errorf(format, args...); w.FailNow() }
func (w *witness) Fatal(args ...any)                 { w.said += fmt.Sprint(args...); w.FailNow() }
func (w *witness) FailNow()                          { runtime.Goexit() }

// failure is how a test fails; empty if it does not.
func failure(t *testing.T, test func(testing.TB)) string {
	t.Helper()
	w := &witness{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(w)
	}()
	<-done
	return w.said
}

var errClosed = errors.New("the discussion is over")

// answer is a command handler: it may not answer in a discussion that is over.
func answer(ctx context.Context, store *eventstore.Store, id eventstore.StreamID, text string) error {
	d, err := focusgroup.Load(ctx, store, id)
	if err != nil {
		return err
	}
	if d.Status == focusgroup.StatusEnded {
		return errClosed
	}
	_, err = store.Append(ctx, id, eventstore.AtVersion(d.Version), &focusgroup.Response{PersonaID: "ann", Text: text})
	return err
}

func TestGivenWhenThen(t *testing.T) {
	t.Parallel()
	log := eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
	started, over := focusgroup.DiscussionStarted{Title: "Packs"}, focusgroup.DiscussionEnded{Reason: "completed"}
	yes := focusgroup.Response{PersonaID: "ann", Text: "Yes"}
	says := func(id eventstore.StreamID, text string) func(context.Context) error {
		return func(ctx context.Context) error { return answer(ctx, log.Store, id, text) }
	}
	nothing := func(context.Context) error { return nil }
	elsewhere := func(ctx context.Context) error {
		_, err := log.Append(ctx, focusgroup.NewDiscussionID(), eventstore.NoStream, yes)
		return errors.Join(errClosed, err)
	}
	for name, c := range map[string]struct {
		test func(tb testing.TB, id eventstore.StreamID)
		says []string // of the failure; none: it passes
	}{
		"an event": {test: func(tb testing.TB, id eventstore.StreamID) {
			eventstoretest.Given(tb, log, id, started).When(says(id, "Yes")).Then(yes)
		}},
		"an event in other words": {test: func(tb testing.TB, id eventstore.StreamID) {
			raw := eventstore.Raw{Type: focusgroup.TypeResponse, JSON: []byte(`{"text": "Yes", "persona_id": "ann"}`)}
			eventstoretest.Given(tb, log, id, started).When(says(id, "Yes")).Then(eventstore.Event{Data: raw})
		}},
		"no event": {test: func(tb testing.TB, id eventstore.StreamID) {
			eventstoretest.Given(tb, log, id, started, over).When(nothing).Then()
		}},
		"an error": {test: func(tb testing.TB, id eventstore.StreamID) {
			eventstoretest.Given(tb, log, id, started, over).When(says(id, "Yes")).ThenError(errClosed)
		}},
		"no stream": {test: func(tb testing.TB, id eventstore.StreamID) {
			eventstoretest.Given(tb, log, id).When(says(id, "Yes")).ThenError(eventstore.ErrStreamNotFound)
		}},
		"another text": {func(tb testing.TB, id eventstore.StreamID) {
			eventstoretest.Given(tb, log, id, started).When(says(id, "No")).Then(yes)
		}, []string{`-  "text": "Yes"`, `+  "text": "No"`}},
		"another type": {func(tb testing.TB, id eventstore.StreamID) {
			eventstoretest.Given(tb, log, id, started).When(says(id, "Yes")).Then(focusgroup.Followup(yes))
		}, []string{"-focusgroup.Followup {", "+focusgroup.Response {"}},
		"an event too few": {func(tb testing.TB, id eventstore.StreamID) {
			eventstoretest.Given(tb, log, id, started).When(nothing).Then(yes)
		}, []string{"the events appended to " + "discussion-"}},
		"an event too many": {func(tb testing.TB, id eventstore.StreamID) {
			eventstoretest.Given(tb, log, id, started).When(says(id, "Yes")).Then()
		}, []string{"+focusgroup.Response {"}},
		"an error not expected": {func(tb testing.TB, id eventstore.StreamID) {
			eventstoretest.Given(tb, log, id, started, over).When(says(id, "Yes")).Then(yes)
		}, []string{"the handler failed: the discussion is over"}},
		"no error": {func(tb testing.TB, id eventstore.StreamID) {
			eventstoretest.Given(tb, log, id, started).When(nothing).ThenError(errClosed)
		}, []string{"error is <nil>"}},
		"another error": {func(tb testing.TB, id eventstore.StreamID) {
			eventstoretest.Given(tb, log, id).When(says(id, "Yes")).ThenError(errClosed)
		}, []string{"has no events", "want one that matches the discussion is over"}},
		"an error that left something behind": {func(tb testing.TB, id eventstore.StreamID) {
			eventstoretest.Given(tb, log, id, started).When(elsewhere).ThenError(errClosed)
		}, []string{"appended 0 events", "1 to other streams"}},
		"a stream that is there": {func(tb testing.TB, id eventstore.StreamID) {
			eventstoretest.Given(tb, log, id, started)
			eventstoretest.Given(tb, log, id, started)
		}, []string{"given: append to discussion-"}},
	} {
		said := failure(t, func(tb testing.TB) { c.test(tb, focusgroup.NewDiscussionID()) })
		if len(c.says) == 0 {
			require.Empty(t, said, name)
		}
		for _, part := range c.says {
			require.Contains(t, said, part, name)
		}
	}
}

// A log without a codec has payloads as they were written.
func TestGivenWithoutACodec(t *testing.T) {
	t.Parallel()
	log := eventstoretest.New(t, eventstore.Config{})
	raw := func(body string) eventstore.Raw { return eventstore.Raw{Type: "x", JSON: []byte(body)} }
	when := func(ctx context.Context) error {
		_, err := log.Append(ctx, "a-1", eventstore.Any, raw(`{"n":1}`))
		return err
	}
	eventstoretest.Given(t, log, "a-1", raw(`{}`)).When(when).Then(raw(`{ "n": 1 }`))
	require.Contains(t, failure(t, func(tb testing.TB) {
		eventstoretest.Given(tb, log, "a-2", raw(`{}`)).When(when).Then(raw(`{"n":2}`))
	}), `the events appended to a-2`)
}
