package replay_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/snapshot"
	"github.com/sight-platform/hindsight/snapshot/replay"
)

// A discussion played again up to what is looked for, and a look back from there.
func Example() {
	ctx := context.Background()
	throwaway, err := eventstoretest.Open(ctx, eventstore.Config{Codec: focusgroup.Codec()})
	check(err)
	defer func() { check(throwaway.Close(ctx)) }()
	id := focusgroup.NewDiscussionID()
	start := time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
	said := func(after time.Duration, data any) eventstore.Event {
		return eventstore.Event{Data: data, OccurredAt: start.Add(after)}
	}
	_, err = throwaway.Append(ctx, id, eventstore.NoStream,
		said(0, focusgroup.DiscussionStarted{Title: "Packs", Participants: []focusgroup.Participant{{PersonaID: "ann", Name: "Ann"}}}),
		said(time.Second, focusgroup.Response{PersonaID: "ann", Question: "What do you see first?", Text: "The green lid."}),
		said(2*time.Second, focusgroup.Response{PersonaID: "ann", Question: "And then?", Text: "The price."}),
		said(3*time.Second, focusgroup.DiscussionEnded{Reason: "completed"}))
	check(err)

	player, err := replay.Open(ctx, throwaway.Store, replay.Config[*focusgroup.Discussion]{
		Fold: snapshot.Fold[*focusgroup.Discussion]{
			New: func(eventstore.StreamID) *focusgroup.Discussion { return &focusgroup.Discussion{} },
			Apply: func(d *focusgroup.Discussion, e eventstore.Recorded) (*focusgroup.Discussion, error) {
				return d, d.Apply(e)
			},
		},
		Speed: 100,
		Break: func(step replay.Step[*focusgroup.Discussion]) bool { return step.State.Responses == 2 },
	}, id)
	check(err)
	err = player.Play(ctx, func(_ context.Context, step replay.Step[*focusgroup.Discussion]) error {
		fmt.Println(step.At.Sub(start), step.Event.Type)
		return nil
	})
	fmt.Println(err)
	step, err := player.Back(ctx)
	check(err)
	changes, err := step.Changes()
	check(err)
	for _, change := range changes {
		if change.Path == "/responses" || change.Path == "/version" {
			fmt.Println(change)
		}
	}
	// Output:
	// 0s discussion_started
	// 1s response
	// 2s response
	// the replay has come to a breakpoint
	// /responses: 0 → 1
	// /version: 1 → 2
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
