package focusgroup_test

import (
	"bytes"
	"context"
	"fmt"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// A discussion is recorded to NDJSON in one place and replayed into an empty log in another.
func ExampleImport() {
	ctx := context.Background()
	config := eventstore.Config{Codec: focusgroup.Codec()}
	here, err := eventstoretest.Open(ctx, config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = here.Close(ctx) }()
	id := focusgroup.NewDiscussionID()
	if _, err := here.Append(ctx, id, eventstore.NoStream,
		focusgroup.DiscussionStarted{Title: "Packs", Participants: []focusgroup.Participant{{PersonaID: "ann", Name: "Ann"}}},
		focusgroup.Response{PersonaID: "ann", Question: "What do you see first?", Text: "The green lid."},
		focusgroup.DiscussionEnded{Reason: "completed"},
	); err != nil {
		fmt.Println(err)
		return
	}
	var recording bytes.Buffer
	fmt.Println(focusgroup.Export(&recording, here.Stream(ctx, id, 0)))

	there, err := eventstoretest.Open(ctx, config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = there.Close(ctx) }()
	imported, err := focusgroup.Import(ctx, there.Store, focusgroup.ReadRecording(&recording))
	fmt.Println(imported.Events, imported.Streams, err)
	discussion, err := focusgroup.Load(ctx, there.Store, id)
	fmt.Println(discussion.Status, discussion.Participants[0].Name, discussion.Participants[0].Words, err)
	// Output:
	// 3 <nil>
	// 3 1 <nil>
	// ended Ann 3 <nil>
}
