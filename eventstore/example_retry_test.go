package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/google/uuid"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// Give events ids of your own, and an append can be repeated safely: after a lost connection, a timeout, a redelivered
// message. The first receipt comes back, and nothing is written twice.
func ExampleStore_Append_repeated() {
	ctx := context.Background()
	store, err := eventstoretest.Open(ctx, eventstore.Config{Codec: focusgroup.Codec()})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = store.Close(ctx) }()
	discussion := focusgroup.NewDiscussionID()
	started := eventstore.Event{
		ID:   uuid.Must(uuid.NewV7()), // or the id of the message that asks for it
		Data: focusgroup.DiscussionStarted{Title: "Packs"},
	}

	handle := func() (eventstore.Receipt, error) {
		for try := 1; ; try++ {
			receipt, err := store.Append(ctx, discussion, eventstore.NoStream, started)
			again := errors.Is(err, eventstore.ErrOutcomeUnknown) || eventstore.Retryable(err)
			if !again || try == 5 {
				return receipt, err
			}
			time.Sleep(time.Duration(try) * 100 * time.Millisecond)
		}
	}
	for range 2 { // the message is delivered twice
		receipt, err := handle()
		fmt.Println("version", receipt.Version, "repeated:", receipt.Repeated, "error:", err)
	}
	head, err := store.Head(ctx, discussion)
	fmt.Println("the stream is at version", head.Version, err)
	// Output:
	// version 1 repeated: false error: <nil>
	// version 1 repeated: true error: <nil>
	// the stream is at version 1 <nil>
}
