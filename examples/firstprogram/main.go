// The first program: append two events to a discussion, read them back, fold its state.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

func main() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	check(err)
	store, err := eventstore.New(pool, eventstore.Config{Codec: focusgroup.Codec()}) // no goroutine, no DDL
	check(err)
	check(store.Migrate(ctx))

	id := focusgroup.NewDiscussionID()
	_, err = store.Append(ctx, id, eventstore.NoStream,
		focusgroup.DiscussionStarted{Title: "Packs", Participants: []focusgroup.Participant{{PersonaID: "ann", Name: "Ann"}}},
		focusgroup.Response{PersonaID: "ann", Question: "What do you see first?", Text: "The green lid."})
	check(err)
	for event, err := range store.Stream(ctx, id, 0) {
		check(err)
		fmt.Println(event.Version, event.Type)
	}
	discussion, err := focusgroup.Load(ctx, store, id)
	check(err)
	fmt.Println(discussion.Status, discussion.Participants[0].Name, "said", discussion.Participants[0].Words, "words")
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
