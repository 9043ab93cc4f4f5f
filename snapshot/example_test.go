package snapshot_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/snapshot"
)

// A discussion as it is, and as it was.
func Example() {
	ctx := context.Background()
	throwaway, err := eventstoretest.Open(ctx, eventstore.Config{Codec: focusgroup.Codec()})
	check(err)
	defer func() { check(throwaway.Close(ctx)) }()
	store := throwaway.Store
	check(snapshot.Migrate(ctx, store))
	discussions, err := snapshot.NewLoader(store, snapshot.Fold[*focusgroup.Discussion]{
		Name: "discussion", Version: 1,
		New: func(eventstore.StreamID) *focusgroup.Discussion { return &focusgroup.Discussion{} },
		Apply: func(d *focusgroup.Discussion, e eventstore.Recorded) (*focusgroup.Discussion, error) {
			return d, d.Apply(e)
		},
	}, snapshot.Config{})
	check(err)

	id := focusgroup.NewDiscussionID()
	start := time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
	at := func(after time.Duration, data any) eventstore.Event {
		return eventstore.Event{Data: data, OccurredAt: start.Add(after)}
	}
	_, err = store.Append(ctx, id, eventstore.NoStream,
		at(0, focusgroup.DiscussionStarted{Title: "Packs", Participants: []focusgroup.Participant{{PersonaID: "ann", Name: "Ann"}}}),
		at(time.Minute, focusgroup.Response{PersonaID: "ann", Question: "What do you see first?", Text: "The green lid."}),
		at(2*time.Minute, focusgroup.Response{PersonaID: "ann", Question: "And then?", Text: "The price."}))
	check(err)

	now, err := discussions.Load(ctx, id)
	check(err)
	then, err := discussions.AsOf(ctx, id, snapshot.At{Occurred: start.Add(90 * time.Second)})
	check(err)
	fmt.Println("now", now.State.Responses, "then", then.State.Responses)
	// Output: now 2 then 1
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
