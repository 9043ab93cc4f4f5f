// A fact of one's own: how often a product's name is said, declared by its columns and a function from event to row. Table,
// indexes, monthly partitions, comments, loading and checks follow; so does an aggregate by day.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

func main() {
	mentions := analytics.Fact{
		Name: "fact_mentions", Grain: "A row a response that names the product.", Types: []string{focusgroup.TypeResponse},
		Columns: []analytics.Column{
			{Name: "persona_id", Of: analytics.Personas, Comment: "Who says it.", Index: true},
			{Name: "times", Type: "integer NOT NULL CHECK (times > 0)", Comment: "How often the name is said."},
		},
		Rows: func(e eventstore.Recorded) ([]analytics.Row, error) {
			response := e.Data.(focusgroup.Response)
			times := strings.Count(strings.ToLower(response.Text), "greenlid")
			if times == 0 {
				return nil, nil
			}
			return []analytics.Row{{Project: response.ProjectID, Values: []any{response.PersonaID, times}}}, nil
		},
	}
	daily := analytics.Aggregate{
		Name: "daily_mentions", Grain: "A row a day with mentions.", By: analytics.ByDay, Key: []string{"date"},
		Columns: []analytics.Column{
			{Name: "date", Type: "date NOT NULL", Comment: "Day."},
			{Name: "mentions", Type: "bigint NOT NULL", Comment: "How often the name was said."},
		},
		SQL: `SELECT day, sum(times) FROM {{fact_mentions}} WHERE day = ANY ($1) GROUP BY 1`,
	}

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	check(err)
	store, err := eventstore.New(pool, eventstore.Config{Codec: focusgroup.Codec()})
	check(err)
	check(store.Migrate(ctx))
	receipt, err := store.Append(ctx, focusgroup.NewDiscussionID(), eventstore.NoStream,
		focusgroup.DiscussionStarted{ProjectID: "packs", Title: "Packs"},
		focusgroup.Response{PersonaID: "ann", Text: "Greenlid, I would say. Yes, Greenlid."},
		focusgroup.Response{PersonaID: "bo", Text: "The other one."})
	check(err)

	star, err := analytics.New(store, analytics.Config{Facts: []analytics.Fact{mentions}, Aggregates: []analytics.Aggregate{daily}})
	check(err)
	runner, err := projection.New(store, projection.Config{Projections: []projection.Projection{star}})
	check(err)
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(ctx) }()
	check(runner.WaitFor(ctx, "analytics", receipt.Position()))
	_, err = star.Refresh(ctx)
	check(err)
	var said int
	check(pool.QueryRow(ctx, `SELECT mentions FROM hindsight.daily_mentions`).Scan(&said))
	fmt.Println("Greenlid was named", said, "times")
	stop()
	check(<-ended)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
