package snapshot

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strings"

	"github.com/sight-platform/hindsight/eventstore"
)

// FieldChange is a change of a field, and the event that made it.
type FieldChange struct {
	Change
	Event eventstore.Recorded
}

// History yields when a field of a stream's state changed, by which event, from what to what: pointer is a JSON Pointer (RFC
// 6901) into the state's JSON, such as "/status" or "/participants/0/turns"; "" is the whole state. It folds the stream from
// its start, and encodes each state. An error comes last and once; it matches [eventstore.ErrInvalid] or
// [eventstore.ErrStreamNotFound], or is that of reading, of Apply or of encoding.
func (l *Loader[S]) History(ctx context.Context, id eventstore.StreamID, pointer string) iter.Seq2[FieldChange, error] {
	return func(yield func(FieldChange, error) bool) {
		fail := func(err error) { yield(FieldChange{}, fmt.Errorf("the history of %s in %s: %w", pointer, id, err)) }
		if pointer != "" && !strings.HasPrefix(pointer, "/") {
			fail(&eventstore.InvalidError{Index: -1, Field: "pointer", Reason: fmt.Sprintf("is %q: a JSON Pointer begins with /", pointer)})
			return
		}
		found := l.zero(id)
		before, err := l.field(found.State, pointer)
		if err != nil {
			fail(err)
			return
		}
		for event, err := range l.store.Stream(ctx, id, 0) {
			var after json.RawMessage
			if err == nil {
				err = l.apply(&found, event)
			}
			if err == nil {
				after, err = l.field(found.State, pointer)
			}
			if err != nil {
				fail(err)
				return
			}
			if string(before) != string(after) && !yield(FieldChange{Change{Path: pointer, Before: before, After: after}, event}, nil) {
				return
			}
			before = after
		}
		if found.Version == 0 {
			fail(eventstore.ErrStreamNotFound)
		}
	}
}

func (l *Loader[S]) field(state S, pointer string) (json.RawMessage, error) {
	text, err := json.Marshal(state)
	if err != nil {
		return nil, err
	}
	return at(text, pointer)
}

// Compare returns what makes a stream's state at one point that at another; see [Diff]. The errors are those of
// [Loader.AsOf].
func (l *Loader[S]) Compare(ctx context.Context, id eventstore.StreamID, from, to At) ([]Change, error) {
	before, err := l.AsOf(ctx, id, from)
	if err != nil {
		return nil, err
	}
	after, err := l.AsOf(ctx, id, to)
	if err != nil {
		return nil, err
	}
	return Diff(before.State, after.State)
}
