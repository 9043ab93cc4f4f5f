// OpenTelemetry: the hooks of a projection runner as metrics. Any exporter will do; this one prints.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection"
)

// hooks count what a runner does, by projection: events, failed batches, parked events, and the time that batches take.
func hooks(meter metric.Meter) (projection.Hooks, error) {
	events, err := meter.Int64Counter("hindsight.projection.events")
	if err != nil {
		return projection.Hooks{}, err
	}
	failures, err := meter.Int64Counter("hindsight.projection.failures")
	if err != nil {
		return projection.Hooks{}, err
	}
	parked, err := meter.Int64Counter("hindsight.projection.parked")
	if err != nil {
		return projection.Hooks{}, err
	}
	duration, err := meter.Float64Histogram("hindsight.projection.batch.duration", metric.WithUnit("s"))
	if err != nil {
		return projection.Hooks{}, err
	}
	named := func(name string) metric.MeasurementOption {
		return metric.WithAttributes(attribute.String("projection", name))
	}
	ctx := context.Background()
	return projection.Hooks{
		Batch: func(info projection.BatchInfo) {
			if info.Err != nil {
				failures.Add(ctx, 1, named(info.Projection))
				return
			}
			events.Add(ctx, int64(info.Events), named(info.Projection))
			duration.Record(ctx, info.Duration.Seconds(), named(info.Projection))
		},
		Parked: func(info projection.ParkedInfo) { parked.Add(ctx, 1, named(info.Projection)) },
	}, nil
}

func main() {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	reader := sdk.NewManualReader()
	meter := sdk.NewMeterProvider(sdk.WithReader(reader)).Meter("hindsight")
	observed, err := hooks(meter)
	check(err)

	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	check(err)
	store, err := eventstore.New(pool, eventstore.Config{Codec: focusgroup.Codec()})
	check(err)
	check(store.Migrate(ctx))
	receipt, err := store.Append(ctx, focusgroup.NewDiscussionID(), eventstore.NoStream,
		focusgroup.DiscussionStarted{Title: "Packs", Participants: []focusgroup.Participant{{PersonaID: "ann", Name: "Ann"}}},
		focusgroup.Response{PersonaID: "ann", Question: "What do you see first?", Text: "The green lid."})
	check(err)

	runner, err := projection.New(store, projection.Config{Projections: []projection.Projection{none{}}, Hooks: observed})
	check(err)
	running, leave := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(running) }()
	check(runner.WaitFor(ctx, "none", receipt.Position()))
	leave()
	check(<-ended) // the hook is called after the commit that WaitFor sees, and before Run returns

	var gathered metricdata.ResourceMetrics
	check(reader.Collect(ctx, &gathered))
	for _, m := range gathered.ScopeMetrics[0].Metrics {
		if sum, ok := m.Data.(metricdata.Sum[int64]); ok {
			fmt.Println(m.Name, sum.DataPoints[0].Value)
		}
	}
}

// none is a projection that writes nothing.
type none struct{}

func (none) Spec() projection.Spec                                  { return projection.Spec{Name: "none"} }
func (none) Apply(context.Context, pgx.Tx, *projection.Batch) error { return nil }

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
