package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// One decision that concerns several streams is one append: all of them or none.
func ExampleStore_AppendMany() {
	ctx := context.Background()
	store, err := eventstoretest.Open(ctx, eventstore.Config{Codec: focusgroup.Codec()})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = store.Close(ctx) }()
	begin := func(id eventstore.StreamID, expected eventstore.Expected) eventstore.StreamAppend {
		return eventstore.StreamAppend{StreamID: id, Expected: expected, Events: []any{focusgroup.DiscussionStarted{Title: "Packs"}}}
	}
	receipts, err := store.AppendMany(ctx, begin("discussion-north", eventstore.NoStream), begin("discussion-south", eventstore.NoStream))
	fmt.Println(len(receipts), "streams begun together:", receipts[0].RecordedAt.Equal(receipts[1].RecordedAt), err)

	_, err = store.AppendMany(ctx, begin("discussion-east", eventstore.NoStream), begin("discussion-south", eventstore.NoStream))
	var conflict *eventstore.ConflictError
	fmt.Println(errors.As(err, &conflict), conflict)
	_, err = store.Head(ctx, "discussion-east")
	fmt.Println(err)
	// Output:
	// 2 streams begun together: true <nil>
	// true append to discussion-south: expected no stream, the stream is at version 1
	// stream discussion-east: the stream has no events
}
