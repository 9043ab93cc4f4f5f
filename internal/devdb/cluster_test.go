//go:build unix

package devdb

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClusterIsDurableAndTakesSettings(t *testing.T) {
	forEachSource(t, func(t *testing.T, e environment) {
		e.url = "postgres://ignored"
		cluster, err := e.startCluster(t.Context(), map[string]string{"max_prepared_transactions": "7"})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, cluster.Close()) })

		conn := connect(t, cluster.URL())
		require.Equal(t, "7", queryText(t, conn, "SHOW max_prepared_transactions"))
		for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
			require.Equal(t, "on", queryText(t, conn, "SELECT current_setting($1)", setting), setting)
		}
		if dir := cluster.BinDir(); dir != "" {
			_, err := os.Stat(filepath.Join(dir, "pg_ctl"))
			require.NoError(t, err)
		}
	})
}

func TestKillThenStartKeepsCommittedRows(t *testing.T) {
	forEachSource(t, func(t *testing.T, e environment) {
		cluster, err := e.startCluster(t.Context(), nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, cluster.Close()) })
		conn, open := connect(t, cluster.URL()), connect(t, cluster.URL())
		_, err = conn.Exec(t.Context(), "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('committed')")
		require.NoError(t, err)
		_, err = open.Exec(t.Context(), "BEGIN; INSERT INTO kept VALUES ('not committed')")
		require.NoError(t, err)

		require.Error(t, cluster.Start(t.Context()), "it is running")
		require.NoError(t, cluster.Kill())
		require.Error(t, conn.Ping(t.Context()))
		require.Error(t, open.Ping(t.Context()))
		require.Error(t, cluster.Kill(), "it is not running")

		require.NoError(t, cluster.Start(t.Context()))
		again := connect(t, cluster.URL())
		require.Equal(t, "committed", queryText(t, again, "SELECT string_agg(word, ',') FROM kept"))

		// Once more: a recovered server can be killed, and a killed one closed.
		require.NoError(t, cluster.Kill())
		gone := removed(t, cluster.server)
		require.NoError(t, cluster.Close())
		require.True(t, gone())
		require.ErrorIs(t, cluster.Kill(), errClosed)
		require.ErrorIs(t, cluster.Start(t.Context()), errClosed)
	})
}

func TestStandbyFollowsUntilItIsPromoted(t *testing.T) {
	forEachSource(t, func(t *testing.T, e environment) {
		primary, err := e.startCluster(t.Context(), map[string]string{"max_locks_per_transaction": "100"})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, primary.Close()) })
		conn := connect(t, primary.URL())
		_, err = conn.Exec(t.Context(), "CREATE TABLE copied (word text)")
		require.NoError(t, err)
		standby, err := primary.StartStandby(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, standby.Close()) })
		_, err = conn.Exec(t.Context(), "INSERT INTO copied VALUES ('later')")
		require.NoError(t, err)

		replica := connect(t, standby.URL())
		require.Eventually(t, func() bool { return queryText(t, replica, "SELECT coalesce(max(word), '') FROM copied") == "later" },
			20*time.Second, 10*time.Millisecond)
		require.Equal(t, "100", queryText(t, replica, "SHOW max_locks_per_transaction"))
		_, err = replica.Exec(t.Context(), "INSERT INTO copied VALUES ('refused')")
		require.ErrorContains(t, err, "read-only")

		require.NoError(t, standby.Kill())
		require.NoError(t, standby.Start(t.Context()))
		replica = connect(t, standby.URL())
		require.Equal(t, "true", queryText(t, replica, "SELECT pg_is_in_recovery()::text"))

		// Its primary is gone before it is promoted, and it is closed after it.
		require.NoError(t, primary.Close())
		_, err = primary.StartStandby(t.Context())
		require.ErrorIs(t, err, errClosed)
		require.Equal(t, "true", queryText(t, replica, "SELECT pg_promote()::text"))
		_, err = replica.Exec(t.Context(), "INSERT INTO copied VALUES ('taken')")
		require.NoError(t, err)
		gone := removed(t, standby.server)
		require.False(t, gone())
		require.NoError(t, standby.Close())
		require.True(t, gone())
	})
}
