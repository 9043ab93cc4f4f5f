package eventstoretest

import (
	"iter"
	"testing"

	"github.com/sight-platform/hindsight/eventstore"
)

// Collect reads a sequence to its end; an error fails the test.
func Collect(tb testing.TB, events iter.Seq2[eventstore.Recorded, error]) []eventstore.Recorded {
	tb.Helper()
	var out []eventstore.Recorded
	for event, err := range events {
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, event)
	}
	return out
}
