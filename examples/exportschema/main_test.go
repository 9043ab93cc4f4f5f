package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/devdb"
)

// Each format, applied to an empty database as its tool would, gives a log that CheckSchema accepts.
func TestExportsMakeALog(t *testing.T) {
	t.Parallel()
	cluster, err := devdb.StartCluster(t.Context(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	pool, err := pgxpool.New(t.Context(), cluster.URL())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	for _, format := range []string{"plain", "goose", "tern"} {
		dir := t.TempDir()
		schema := "log_" + format
		require.NoError(t, export(dir, format, schema))
		require.NoError(t, export(dir, format, schema), "a second run leaves the files alone")
		files, err := filepath.Glob(filepath.Join(dir, "*.sql"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			sql, err := os.ReadFile(file)
			require.NoError(t, err)
			up, _, _ := strings.Cut(string(sql), "---- create above / drop below ----")
			require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
				_, err := tx.Conn().PgConn().Exec(t.Context(), up).ReadAll()
				return err
			}))
		}
		store, err := eventstore.New(pool, eventstore.Config{Schema: schema})
		require.NoError(t, err)
		require.NoError(t, store.CheckSchema(t.Context()))
	}
	require.Error(t, export(t.TempDir(), "flyway", "hindsight"))
	require.ErrorIs(t, export(t.TempDir(), "plain", "a b"), eventstore.ErrInvalid)
}
