// A first projection: the words that each persona has said, kept up to date in a table of its own. It needs one type and one
// Run beyond the first program.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection"
)

// words counts the words of each persona.
type words struct{}

func (words) Spec() projection.Spec {
	return projection.Spec{
		Name: "words", Types: []string{focusgroup.TypeResponse},
		Tables: []projection.Table{{Name: "words", SQL: `CREATE TABLE {{table}} (persona text PRIMARY KEY, words bigint NOT NULL)`}},
	}
}

func (words) Apply(ctx context.Context, tx pgx.Tx, batch *projection.Batch) error {
	said := map[string]int{}
	for _, event := range batch.Events {
		response := event.Data.(focusgroup.Response)
		said[response.PersonaID] += len(strings.Fields(response.Text))
	}
	for persona, n := range said {
		if _, err := tx.Exec(ctx, `INSERT INTO `+batch.Table("words")+` AS w VALUES ($1, $2)
ON CONFLICT (persona) DO UPDATE SET words = w.words + excluded.words`, persona, n); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	check(err)
	store, err := eventstore.New(pool, eventstore.Config{Codec: focusgroup.Codec()})
	check(err)
	check(store.Migrate(ctx))
	receipt, err := store.Append(ctx, focusgroup.NewDiscussionID(), eventstore.NoStream,
		focusgroup.DiscussionStarted{Title: "Packs", Participants: []focusgroup.Participant{{PersonaID: "ann", Name: "Ann"}}},
		focusgroup.Response{PersonaID: "ann", Question: "What do you see first?", Text: "The green lid."})
	check(err)

	runner, err := projection.New(store, projection.Config{Projections: []projection.Projection{words{}}})
	check(err)
	ended := make(chan struct{})
	go func() { // in as many processes as you like
		defer close(ended)
		check(runner.Run(ctx))
	}()

	check(runner.WaitFor(ctx, "words", receipt.Position())) // read your writes
	var n int
	check(pool.QueryRow(ctx, `SELECT words FROM hindsight.words WHERE persona = 'ann'`).Scan(&n))
	fmt.Println("ann said", n, "words")
	stop()
	<-ended // its shards are free for others at once
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
