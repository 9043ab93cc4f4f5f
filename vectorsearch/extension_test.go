package vectorsearch_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/devdb"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
	"github.com/sight-platform/hindsight/snapshot"
	"github.com/sight-platform/hindsight/vectorsearch"
)

// Without pgvector in the database everything else works: the log keeps its contract, snapshots and the star build; searching says
// what is missing. (The databases of the other packages' tests do not have the extension either.)
func TestWithoutTheExtension(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	logs := atomic.Int64{}
	open := func(tb testing.TB, config eventstore.Config) *eventstoretest.Log {
		config.Schema = fmt.Sprintf("log_%d", logs.Add(1))
		pool := eventstoretest.Pool(tb, server.URL())
		store, err := eventstore.New(pool, config)
		require.NoError(tb, err)
		require.NoError(tb, store.Migrate(context.Background()))
		if config.Clock != nil {
			_, err := pool.Exec(context.Background(), `INSERT INTO `+config.Schema+`.settings (name, value) VALUES ('test_clock', 'on')`)
			require.NoError(tb, err)
		}
		return &eventstoretest.Log{Store: store, Pool: pool}
	}
	t.Run("the log", func(t *testing.T) {
		t.Parallel()
		eventstoretest.Conformance(t, open)
	})
	t.Run("what is built on it", func(t *testing.T) {
		t.Parallel()
		log := open(t, eventstore.Config{Codec: focusgroup.Codec()})
		id := focusgroup.NewDiscussionID()
		say(t, log, id, "p", "anna", "one", "two")
		require.NoError(t, snapshot.Migrate(t.Context(), log.Store))
		star, err := analytics.New(log.Store, analytics.Config{})
		require.NoError(t, err)
		runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{star}})
		require.NoError(t, err)
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		require.NoError(t, runner.CatchUp(ctx))
	})
	t.Run("searching", func(t *testing.T) {
		t.Parallel()
		log := open(t, eventstore.Config{Codec: focusgroup.Codec()})
		index, err := vectorsearch.New(log.Store, vectorsearch.Config{Embedder: &wordEmbedder{dimensions: 8}})
		require.NoError(t, err)
		_, err = index.Search(t.Context(), vectorsearch.Query{Text: "one"})
		var missing *vectorsearch.ExtensionError
		require.ErrorAs(t, err, &missing)
		require.ErrorIs(t, err, vectorsearch.ErrExtension)
		require.Empty(t, missing.Installed)
		require.Contains(t, missing.Error(), "Index.Migrate")

		runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{index}})
		require.NoError(t, err)
		require.ErrorContains(t, runner.Migrate(t.Context()), "call Index.Migrate first")
		var tables int
		require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_class WHERE relname LIKE 'search%' AND relnamespace = $1::text::regnamespace`, log.Schema()).Scan(&tables))
		require.Zero(t, tables, "nothing is half made")
	})
}

func TestAnOldExtension(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	pool := eventstoretest.Pool(t, server.URL())
	store, err := eventstore.New(pool, eventstore.Config{Codec: focusgroup.Codec()})
	require.NoError(t, err)
	require.NoError(t, store.Migrate(t.Context()))
	index, err := vectorsearch.New(store, vectorsearch.Config{Embedder: &wordEmbedder{dimensions: 8}})
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions; UPDATE pg_extension SET extversion = '0.6.2' WHERE extname = 'vector'`)
	require.NoError(t, err)
	err = index.Migrate(t.Context())
	var old *vectorsearch.ExtensionError
	require.ErrorAs(t, err, &old)
	require.Equal(t, "0.6.2", old.Installed)
	require.NotEmpty(t, old.Available)
	_, err = index.Search(t.Context(), vectorsearch.Query{Text: "one"})
	require.ErrorIs(t, err, vectorsearch.ErrExtension)

	// The oldest that does: no scans that go on by themselves, so that filters are met another way.
	_, err = pool.Exec(t.Context(), `UPDATE pg_extension SET extversion = '0.7.0' WHERE extname = 'vector'`)
	require.NoError(t, err)
	require.NoError(t, index.Migrate(t.Context()))
	log := &eventstoretest.Log{Store: store, Pool: pool}
	say(t, log, "discussion-1", "p", "anna", "one", "two")
	advance(t, log, index)
	answer, err := index.Search(t.Context(), vectorsearch.Query{Text: "two", K: 1})
	require.NoError(t, err)
	require.Equal(t, []string{"two"}, texts(answer.Hits))
}

func startServer(t *testing.T) *devdb.Cluster {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	server, err := devdb.StartCluster(ctx, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return server
}
