package eventstore_test

import (
	"errors"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/internal/devdb"
)

// Guarantee 2's limit behind PgBouncer: where the server dies during an append, the pooler's own good-bye is an error with a
// code, and yet no answer of PostgreSQL's. The append's outcome is unknown, and a repetition with the same id finds out.
// (`make test-pgbouncer` runs everything else behind one, too.)
func TestOutcomeUnknownBehindPgBouncer(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 2*time.Minute)
	cluster, err := devdb.StartCluster(ctx, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	pooler, err := cluster.StartPooler(ctx, 10)
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("PgBouncer is not on this machine; `make test-pgbouncer` installs it")
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pooler.Close()) })
	store, err := eventstore.New(eventstoretest.Pool(t, pooler.URL()), eventstore.Config{Codec: noteCodec(t)})
	require.NoError(t, err)
	require.NoError(t, store.Migrate(ctx))
	_, err = store.Append(ctx, "a-1", eventstore.NoStream, note{"first"})
	require.NoError(t, err)

	direct := eventstoretest.Pool(t, cluster.URL())
	tx, err := direct.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx) //nolint:errcheck // its server dies
	_, err = tx.Exec(ctx, `SELECT FROM hindsight.streams FOR UPDATE`)
	require.NoError(t, err)
	event := eventstore.Event{ID: uuid.Must(uuid.NewV7()), Data: note{"second"}}
	appended := make(chan error, 1)
	go func() {
		_, err := store.Append(ctx, "a-1", eventstore.AtVersion(1), event)
		appended <- err
	}()
	var pid int
	require.Eventually(t, func() bool { // the append is under way
		return direct.QueryRow(ctx, `SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'`).Scan(&pid) == nil
	}, 20*time.Second, time.Millisecond)
	// The crash of one process takes the others along; the server begins anew, at the same address.
	_, err = direct.Exec(ctx, fmt.Sprintf(`COPY (SELECT) TO PROGRAM 'kill -KILL %d'`, pid))
	t.Logf("the crash: %v", err) // the killer may go down with its victim

	if err := <-appended; err != nil { // it may have found out by itself
		require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown)
		_, err = store.Append(ctx, "a-1", eventstore.AtVersion(1), event)
		require.NoError(t, err)
	}
	stream := eventstoretest.Collect(t, store.Stream(ctx, "a-1", 0))
	require.Len(t, stream, 2)
	require.Equal(t, event.ID, stream[1].ID)
}
