package analytics_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

func newLog(t testing.TB) *eventstoretest.Log {
	t.Helper()
	return eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
}

// build runs a star over all that the log holds.
func build(t testing.TB, log *eventstoretest.Log, config analytics.Config) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	star, err := analytics.New(log.Store, config)
	require.NoError(t, err)
	runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{star}})
	require.NoError(t, err)
	require.NoError(t, runner.Migrate(ctx))
	running, leave := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(running) }()
	settled, err := log.Settled(ctx)
	require.NoError(t, err)
	require.NoError(t, runner.WaitFor(ctx, "analytics", settled))
	leave()
	require.NoError(t, <-ended)
	parked, err := runner.Parked(ctx, "analytics", 10)
	require.NoError(t, err)
	require.Empty(t, parked)
}
