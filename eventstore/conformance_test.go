package eventstore_test

import (
	"testing"

	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// Guarantees 1 to 6 of doc.go, clause by clause.
func TestConformance(t *testing.T) {
	t.Parallel()
	eventstoretest.Conformance(t, eventstoretest.New)
}
