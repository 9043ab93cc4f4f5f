package eventstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/internal/devdb"
)

// Guarantee 10 for a follower in memory: the server restarts while it waits, and its pool connects again as if nothing had
// happened. Is the last event that it yielded still there, it goes on; is it not, it ends.
func TestFollowerLooksBackAfterARestart(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("last event lost: %v", lost), func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, time.Minute)
			cluster, err := devdb.StartCluster(ctx, nil)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, cluster.Close()) })
			gate := &gate{}
			pool := gate.pool(ctx, t, cluster)
			store, err := eventstore.New(pool, eventstore.Config{Codec: noteCodec(t)})
			require.NoError(t, err)
			require.NoError(t, store.Migrate(ctx))
			for i := range 3 {
				_, err := store.Append(ctx, eventstore.StreamID(fmt.Sprintf("a-%d", i)), eventstore.NoStream, note{"x"})
				require.NoError(t, err)
			}
			following := &follower{store: store}
			ended := make(chan error, 1)
			go func() { ended <- following.run(ctx) }()
			require.Eventually(t, func() bool { return following.count() == 3 }, 10*time.Second, time.Millisecond)

			gate.close()
			// A poll that is cut off ends the loop with its error; this test is about one that notices nothing.
			require.Eventually(t, func() bool { return pool.Stat().AcquiredConns() == 0 }, 10*time.Second, time.Millisecond)
			require.NoError(t, cluster.Kill())
			require.NoError(t, cluster.Start(ctx))
			beside := eventstoretest.Pool(t, cluster.URL())
			if lost { // what asynchronous replication or a restore would do
				require.NoError(t, pgx.BeginFunc(ctx, beside, func(tx pgx.Tx) error {
					_, err := tx.Exec(ctx, `SET LOCAL session_replication_role = replica`)
					require.NoError(t, err)
					_, err = tx.Exec(ctx, `DELETE FROM hindsight.events WHERE stream_id = 'a-2'`)
					return err
				}))
			}
			other, err := eventstore.New(beside, eventstore.Config{Codec: noteCodec(t)})
			require.NoError(t, err)
			_, err = other.Append(ctx, "b-1", eventstore.NoStream, note{"after the restart"})
			require.NoError(t, err)
			gate.open(cluster.URL())
			if lost {
				select {
				case err := <-ended:
					require.ErrorIs(t, err, eventstore.ErrLogRewound)
				case <-time.After(10 * time.Second):
					t.Error("the follower has not noticed")
				}
				require.Equal(t, 3, following.count())
				return
			}
			require.Eventually(t, func() bool { return following.count() == 4 }, 10*time.Second, time.Millisecond)
		})
	}
}

// gate stands between a pool and its server: while it is closed, connections of before are given up and new ones wait.
type gate struct {
	mu    sync.Mutex
	shut  chan struct{} // nil while open
	since time.Time     // of the last closing
	url   string
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut, g.since = make(chan struct{}), time.Now()
}

func (g *gate) open(url string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.url = url
	close(g.shut)
	g.shut = nil
}

func (g *gate) pool(ctx context.Context, t *testing.T, cluster *devdb.Cluster) *pgxpool.Pool {
	born := sync.Map{} // *pgx.Conn to the time of its making
	return eventstoretest.Pool(t, cluster.URL(), func(c *pgxpool.Config) {
		c.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) error {
			g.mu.Lock()
			shut := g.shut
			g.mu.Unlock()
			if shut != nil {
				select {
				case <-shut:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			g.mu.Lock()
			url := g.url
			g.mu.Unlock()
			if url == "" { // it was never closed
				return nil
			}
			now, err := pgx.ParseConfig(url) // a container's port may have changed
			if err == nil {
				config.Host, config.Port = now.Host, now.Port
			}
			return err
		}
		c.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
			born.Store(conn, time.Now())
			return nil
		}
		c.PrepareConn = func(_ context.Context, conn *pgx.Conn) (bool, error) {
			made, _ := born.Load(conn)
			at, _ := made.(time.Time)
			g.mu.Lock()
			defer g.mu.Unlock()
			return at.After(g.since), nil
		}
	})
}
