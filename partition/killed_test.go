package partition_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/partition"
)

// keeperVariable makes the test binary a process that looks after months: the JSON of a keeperOrder.
const keeperVariable = "HINDSIGHT_TEST_KEEPER"

type keeperOrder struct{ URL, Schema, Archive string }

func TestMain(m *testing.M) {
	if order := os.Getenv(keeperVariable); order != "" {
		if err := keepAsChild(order); err != nil {
			fmt.Fprintln(os.Stderr, "keeper:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// keepAsChild archives two months and restores them, again and again, until its input ends or it is killed.
func keepAsChild(text string) error {
	var order keeperOrder
	if err := json.Unmarshal([]byte(text), &order); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	go func() { // the test process is gone
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	pool, err := pgxpool.New(ctx, order.URL)
	if err != nil {
		return err
	}
	defer pool.Close()
	store, err := eventstore.New(pool, eventstore.Config{Schema: order.Schema})
	if err != nil {
		return err
	}
	dir, err := partition.NewDir(order.Archive)
	if err != nil {
		return err
	}
	months, err := partition.New(store, partition.Config{Archive: dir, Online: 1000, Quarantine: time.Nanosecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	months.SetRows(partRows, frameRows)
	for {
		for _, month := range []time.Time{january, february} {
			if err := awaitTurn(ctx, func() error { _, err := months.Archive(ctx, month); return err }); err != nil {
				return fmt.Errorf("archiving: %w", err)
			}
		}
		for _, month := range []time.Time{january, february} {
			if err := awaitTurn(ctx, func() error { return months.Restore(ctx, month) }); err != nil {
				return fmt.Errorf("restoring: %w", err)
			}
		}
	}
}

// awaitTurn repeats what cannot go on while another process is at work, or has done it already.
func awaitTurn(ctx context.Context, f func() error) error {
	for {
		err := f()
		if errors.Is(err, partition.ErrNotYet) {
			return nil
		}
		if !errors.Is(err, partition.ErrBusy) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(rand.IntN(20)) * time.Millisecond):
		}
	}
}

// Guarantee M4: processes that archive and restore are killed again and again, whatever they do; the log can be read and appended to all the
// while, and the next run ends what was begun, with nothing lost or doubled.
func TestKilledProcessesLoseNothing(t *testing.T) {
	t.Parallel()
	log := newLog(t, 600)
	ctx := testContext(t)
	archive := t.TempDir()
	dir, err := partition.NewDir(archive)
	require.NoError(t, err)
	months := newMonths(t, log, partition.Config{Archive: dir})
	months.SetRows(partRows, frameRows)
	order, err := json.Marshal(keeperOrder{URL: direct(t).Config().ConnString(), Schema: log.Schema(), Archive: archive})
	require.NoError(t, err)
	cold := withCold(t, log, dir, 50)
	events := collect(t, cold.All(ctx, 0, eventstore.Filter{}))
	want := len(events)
	said := eventstore.NewStreamID("discussion")
	const kills = 20
	seen := map[string]bool{}
	for n := range kills {
		victims := []*osexec.Cmd{startKeeper(t, order), startKeeper(t, order)}
		time.Sleep(time.Duration(50+rand.IntN(400)) * time.Millisecond)
		for _, victim := range victims {
			require.NoError(t, victim.Process.Kill())
			_ = victim.Wait()
		}
		state := states(t, log)
		seen[state["2024-01"]], seen[state["2024-02"]] = true, true
		_, err := log.Append(ctx, said, eventstore.AtVersion(eventstore.Version(n)), eventstore.Raw{Type: "said", SchemaVersion: 1, JSON: []byte(`{}`)})
		require.NoError(t, err)
		now := collect(t, cold.All(ctx, 0, eventstore.Filter{}))
		require.Len(t, now, want+n+1)
		require.Equal(t, events, now[:want], "after kill %d, at %v", n, state)
	}
	t.Logf("states that kills left: %v", seen)
	require.Greater(t, len(seen), 1)
	for _, month := range []time.Time{january, february} {
		var state partition.State
		require.NoError(t, awaitTurn(ctx, func() (err error) { state, err = months.Archive(ctx, month); return err }))
		require.Equal(t, partition.Dropped, state)
	}
	require.Equal(t, events, collect(t, cold.All(ctx, 0, eventstore.Filter{}))[:want])
	for _, month := range []time.Time{january, february} {
		require.NoError(t, months.Restore(ctx, month))
	}
	warm, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema()})
	require.NoError(t, err)
	require.Equal(t, events, collect(t, warm.All(ctx, 0, eventstore.Filter{}))[:want])
	findings, err := months.Doctor(ctx)
	require.NoError(t, err)
	for _, finding := range findings {
		require.False(t, finding.Month.Equal(january) || finding.Month.Equal(february), finding.Text)
	}
}

func startKeeper(t *testing.T, order []byte) *osexec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	child := osexec.CommandContext(t.Context(), self)
	child.Env = append(os.Environ(), keeperVariable+"="+string(order))
	child.Stderr = os.Stderr
	_, err = child.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	return child
}
