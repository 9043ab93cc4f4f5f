package eventstoretest_test

import (
	"testing"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// BenchmarkNew reports what a test pays for a log once the database runs. The aim is under 100 ms.
func BenchmarkNew(b *testing.B) {
	eventstoretest.New(b, eventstore.Config{}) // starts the database
	b.ResetTimer()
	for b.Loop() {
		eventstoretest.New(b, eventstore.Config{})
	}
	b.ReportMetric(float64(b.Elapsed()/time.Millisecond)/float64(b.N), "ms/log")
}
