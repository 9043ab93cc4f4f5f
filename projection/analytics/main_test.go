package analytics_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/corpus"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

func newLog(t testing.TB) *eventstoretest.Log {
	t.Helper()
	return eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
}

// build runs a new star over all that the log holds.
func build(t testing.TB, log *eventstoretest.Log, config analytics.Config) {
	t.Helper()
	star, err := analytics.New(log.Store, config)
	require.NoError(t, err)
	advance(t, log, star)
}

// advance runs a star over what is new in the log, of which nothing is parked, and stops it.
func advance(t testing.TB, log *eventstoretest.Log, star *analytics.Star) {
	t.Helper()
	runner := runUntilSettled(t, log, star)
	parked, err := runner.Parked(t.Context(), "analytics", 10)
	require.NoError(t, err)
	require.Empty(t, parked)
}

// runUntilSettled runs a star until it has come to the end of the log, and stops it.
func runUntilSettled(t testing.TB, log *eventstoretest.Log, star *analytics.Star) *projection.Runner {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{star}, Retries: 1, RetryAfter: 10 * time.Millisecond})
	require.NoError(t, err)
	require.NoError(t, runner.CatchUp(ctx))
	return runner
}

// importCorpus imports a file of the corpus.
func importCorpus(t testing.TB, log *eventstoretest.Log, name string) {
	t.Helper()
	file, err := os.Open(filepath.Join(corpustest.Recordings(t), name))
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	_, err = focusgroup.Import(t.Context(), log.Store, corpus.Read(file))
	require.NoError(t, err)
}
