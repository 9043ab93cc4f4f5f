package eventstore_test

import (
	"context"
	"fmt"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// A live view follows the log. What it keeps outside the database is a cursor.
func ExampleStore_Follow() {
	ctx := context.Background()
	log, err := eventstoretest.Open(ctx, eventstore.Config{Codec: exampleCodec()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = log.Close(ctx) }()
	for i := range 4 {
		if _, err := log.Append(ctx, "discussion-42", eventstore.Any, said{fmt.Sprint("turn ", i+1)}); err != nil {
			fmt.Println(err)
			return
		}
	}

	follow := func(cursor eventstore.Cursor, turns int) eventstore.Cursor {
		after, err := log.Resume(ctx, cursor)
		if err != nil {
			fmt.Println(err)
			return cursor
		}
		for event, err := range log.Follow(ctx, after, eventstore.Filter{Categories: []string{"discussion"}}) {
			if err != nil {
				fmt.Println(err)
				break
			}
			fmt.Println(event.Version, event.Data.(said).Text)
			cursor = event.Cursor()
			if turns--; turns == 0 {
				break
			}
		}
		return cursor
	}
	kept := follow("", 2)
	fmt.Println("… restarted")
	follow(kept, 2)
	// Output:
	// 1 turn 1
	// 2 turn 2
	// … restarted
	// 3 turn 3
	// 4 turn 4
}
