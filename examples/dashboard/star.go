package main

import (
	"context"
	"fmt"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// buildStar builds the star of all that is in the log, and its aggregates. A service would let both run on.
func buildStar(ctx context.Context, store *eventstore.Store) error {
	star, err := analytics.New(store, analytics.Config{})
	if err != nil {
		return err
	}
	runner, err := projection.New(store, projection.Config{Projections: []projection.Projection{star}})
	if err != nil {
		return err
	}
	if err := runner.CatchUp(ctx); err != nil {
		return fmt.Errorf("building the star: %w", err)
	}
	parked, err := runner.Parked(ctx, star.Spec().Name, 1)
	if err != nil {
		return err
	}
	if len(parked) > 0 { // its numbers would be wrong, and nobody would know
		return fmt.Errorf("building the star: an event cannot be applied: %s", parked[0].Error)
	}
	_, err = star.Refresh(ctx)
	return err
}
