package projection_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/internal/devdb"
)

// newServer is a server of a test's own.
func newServer(t *testing.T) *devdb.Cluster {
	t.Helper()
	cluster, err := devdb.StartCluster(testContext(t, 2*time.Minute), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	return cluster
}

// logOn is a log as a program with a pool of its own sees it.
func logOn(t *testing.T, pool *pgxpool.Pool, config eventstore.Config) *eventstoretest.Log {
	t.Helper()
	config.Codec = noteCodec()
	store, err := eventstore.New(pool, config)
	require.NoError(t, err)
	return &eventstoretest.Log{Store: store, Pool: pool}
}

// counted counts how often a runner has logged a message.
type counted struct {
	slog.Handler
	message string
	n       atomic.Int64
}

func (c *counted) Enabled(context.Context, slog.Level) bool { return true }

func (c *counted) Handle(_ context.Context, record slog.Record) error {
	if record.Message == c.message {
		c.n.Add(1)
	}
	return nil
}

// Guarantee P4: a runner whose connections are cut goes on where it was, as long as the event that it read last is in the log;
// after a fail-over that has lost it, Run ends.
func TestARunnerLooksBackAfterALostConnection(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	ctx := testContext(t, 2*time.Minute)
	beside := logOn(t, eventstoretest.Pool(t, server.URL()), eventstore.Config{})
	require.NoError(t, beside.Migrate(ctx))
	worker := logOn(t, eventstoretest.Pool(t, server.URL(), func(c *pgxpool.Config) {
		c.ConnConfig.RuntimeParams["application_name"] = "cut off"
	}), eventstore.Config{})
	lost := &counted{Handler: slog.DiscardHandler, message: "following the log"}
	config := quick(&tally{})
	config.Logger = slog.New(lost)
	runner := newRunner(t, worker, config)
	ended := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	defer stop()
	go func() { ended <- runner.Run(running) }()
	cut := func() { // until the feed has noticed, which a pool may spare it
		t.Helper()
		before := lost.n.Load()
		require.Eventually(t, func() bool {
			_, err := beside.Pool.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cut off'`)
			require.NoError(t, err)
			return lost.n.Load() > before
		}, 30*time.Second, 20*time.Millisecond)
	}
	watch := newRunner(t, beside, config)
	waitFor(t, watch, "tally", appendTo(t, beside, "a-1", "read by the worker itself").Position())
	waitFor(t, watch, "tally", appendTo(t, beside, "a-1", "read by the feed").Position())
	cut()
	last := appendTo(t, beside, "a-1", "after the cut")
	waitFor(t, watch, "tally", last.Position())
	requireFold(t, beside, "tally")

	require.NoError(t, pgx.BeginFunc(ctx, beside.Pool, func(tx pgx.Tx) error { // what asynchronous replication would do
		_, err := tx.Exec(ctx, `SET LOCAL session_replication_role = replica`)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, `DELETE FROM hindsight.events WHERE position = $1`, int64(last.Position()))
		return err
	}))
	cut()
	var end error
	select {
	case end = <-ended:
	case <-time.After(30 * time.Second):
		require.Fail(t, "Run goes on")
	}
	require.ErrorIs(t, end, eventstore.ErrLogRewound)
	var rewound *eventstore.RewoundError
	require.True(t, errors.As(end, &rewound))
	require.Equal(t, last.Position(), rewound.Position)
}
