package projection

import (
	"time"

	"github.com/sight-platform/hindsight/eventstore"
)

// Hooks are told what a runner does, for metrics and traces. Each may be nil; they are called concurrently, and the work
// waits for them.
type Hooks struct {
	// Batch is called after each try to apply a batch.
	Batch func(BatchInfo)
	// Parked is called after an event was parked, and after each failed retry.
	Parked func(ParkedInfo)
	// Shard is called when the worker begins or ends to work on a shard.
	Shard func(ShardInfo)
}

// BatchInfo describes a try to apply a batch.
type BatchInfo struct {
	Projection string
	Version    int
	Shard      int
	Events     int
	Position   eventstore.Position // reached, if Err is nil
	RecordedAt time.Time           // of the last event; zero without one
	Duration   time.Duration
	Err        error
}

// ParkedInfo describes an event that could not be applied.
type ParkedInfo struct {
	Projection string
	Version    int
	Shard      int
	Key        string
	Position   eventstore.Position
	Attempts   int
	Err        error
}

// ShardInfo describes a change of hands.
type ShardInfo struct {
	Projection string
	Version    int
	Shard      int
	Worker     string
	Holds      bool
}
