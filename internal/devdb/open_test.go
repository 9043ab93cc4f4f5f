//go:build unix

package devdb

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

func TestOpenGivesUTF8DatabaseWithVector(t *testing.T) {
	forEachSource(t, func(t *testing.T, e environment) {
		began := time.Now()
		database, err := e.open(t.Context())
		require.NoError(t, err)
		t.Logf("%s after %v", database.From, time.Since(began).Round(time.Millisecond))
		t.Cleanup(func() { require.NoError(t, database.Close()) })

		conn := connect(t, database.URL)
		require.Equal(t, "hindsight", queryText(t, conn, "SELECT current_database()"))
		require.Equal(t, "UTF8", queryText(t, conn, "SHOW server_encoding"))
		require.Equal(t, "UTC", queryText(t, conn, "SHOW timezone"))
		require.Equal(t, "500", queryText(t, conn, "SHOW max_connections"))
		require.Equal(t, "off", queryText(t, conn, "SHOW fsync"))
		require.Equal(t, "ŻÓŁW", queryText(t, conn, "SELECT upper('żółw')"), "the locale knows letters beyond ASCII")
		_, err = conn.Exec(t.Context(), "CREATE EXTENSION vector")
		require.NoError(t, err)
	})
}

func TestURLSuitsPoolAndPsql(t *testing.T) {
	database, err := Shared(t.Context())
	require.NoError(t, err)
	config, err := pgxpool.ParseConfig(database.URL)
	require.NoError(t, err)
	if database.From == urlVariable {
		return // it is not ours, and may hold settings for pgx alone
	}
	require.Equal(t, "hindsight", config.ConnConfig.Database)

	out, err := exec.CommandContext(t.Context(), "psql", database.URL, "-XAtc", "SELECT current_database()").CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return // a machine with Docker alone
	}
	require.NoError(t, err, "%s", out)
	require.Equal(t, "hindsight\n", string(out))
}

func TestSharedIsOneDatabase(t *testing.T) {
	one, err := Shared(t.Context())
	require.NoError(t, err)
	other, err := Shared(t.Context())
	require.NoError(t, err)
	require.Same(t, one, other)
}

func TestSharedOutlivesTheContextThatOpenedIt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	database, err := Shared(ctx)
	require.NoError(t, err)
	cancel()
	connect(t, database.URL)
}

func TestCloseRemovesEverything(t *testing.T) {
	forEachSource(t, func(t *testing.T, e environment) {
		database, err := e.open(t.Context())
		require.NoError(t, err)
		gone := removed(t, database.cluster.server)
		require.False(t, gone())
		require.NoError(t, database.Close())
		require.True(t, gone())
		require.NoError(t, database.Close(), "a second time")
	})
}

func TestDatabaseURLWins(t *testing.T) {
	shared, err := Shared(t.Context())
	require.NoError(t, err)
	e := environmentOf(os.Getenv)
	e.url, e.direct, e.from = shared.URL, "", fromAnywhere
	database, err := e.open(t.Context())
	require.NoError(t, err)
	require.Equal(t, &Database{URL: shared.URL, DirectURL: shared.URL, From: "HINDSIGHT_DATABASE_URL"}, database)
	e.direct = shared.DirectURL + "&application_name=direct"
	behindPooler, err := e.open(t.Context())
	require.NoError(t, err)
	require.Equal(t, &Database{URL: shared.URL, DirectURL: e.direct, From: "HINDSIGHT_DATABASE_URL"}, behindPooler)

	require.NoError(t, database.Close())
	connect(t, shared.URL) // it was not ours to close
}

func TestDatabaseURLThatDoesNotAnswerIsAnError(t *testing.T) {
	e := environmentOf(os.Getenv)
	e.url, e.from = "postgres://postgres:secret@/none?host="+t.TempDir(), fromAnywhere
	_, err := e.open(t.Context())
	require.ErrorContains(t, err, "connect to HINDSIGHT_DATABASE_URL")
	require.NotContains(t, err.Error(), "secret")
}

func TestErrorNamesTheCommandAndTheReasons(t *testing.T) {
	noEngine := errors.New("no engine answers")
	e := environment{
		image:   "image",
		engine:  func(context.Context) (*engine, error) { return nil, noEngine },
		binDirs: func(context.Context) []string { return []string{t.TempDir()} },
	}
	for _, open := range []func() error{
		func() error { _, err := e.open(t.Context()); return err },
		func() error { _, err := e.startCluster(t.Context(), nil); return err },
	} {
		err := open()
		var unavailable *UnavailableError
		require.ErrorAs(t, err, &unavailable)
		require.ErrorIs(t, err, noEngine)
		require.Len(t, unavailable.Tried, 2)
		require.ErrorContains(t, err, "make setup")
		require.ErrorContains(t, err, "HINDSIGHT_DATABASE_URL")
		require.ErrorContains(t, err, "Docker: no engine answers")
		require.ErrorContains(t, err, "PostgreSQL on this machine: no server programs found")
	}
}

func TestDatabaseFromAllowsNothingElse(t *testing.T) {
	noEngine := errors.New("no engine answers")
	e := environmentOf(os.Getenv)
	e.url, e.from = "postgres://ignored", fromDocker
	e.engine = func(context.Context) (*engine, error) { return nil, noEngine }
	_, err := e.open(t.Context())
	require.ErrorIs(t, err, noEngine)
	require.ErrorContains(t, err, "HINDSIGHT_DATABASE_FROM=docker rules it out")

	e.from = "elsewhere"
	_, err = e.open(t.Context())
	require.ErrorContains(t, err, "HINDSIGHT_DATABASE_FROM")
	_, err = e.startCluster(t.Context(), nil)
	require.ErrorContains(t, err, "HINDSIGHT_DATABASE_FROM")
}

func TestNoEngineIsNoticedQuickly(t *testing.T) {
	if engine, err := findEngine(t.Context()); err == nil {
		require.NotNil(t, engine.api)
		return
	}
	began := time.Now()
	_, err := findEngine(t.Context())
	require.Error(t, err)
	require.Less(t, time.Since(began), time.Second, "a few milliseconds, on a machine at rest")
}

func TestLongTemporaryDirectoryLeavesRoomForTheSocket(t *testing.T) {
	if !slices.Contains(sources(t), fromLocal) {
		return // no socket
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("long,", 20))
	require.NoError(t, os.MkdirAll(long, 0o755))
	for dir := long; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		_ = os.Chmod(dir, 0o755) // the server's account has to get through
	}
	t.Setenv("TMPDIR", long)
	database, err := only(fromLocal).open(t.Context())
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(database.cluster.server.(*localServer).dir, long))
	connect(t, database.URL)
	gone := removed(t, database.cluster.server)
	require.NoError(t, database.Close())
	require.True(t, gone())
}

func TestStartThatFailsShowsTheLog(t *testing.T) {
	forEachSource(t, func(t *testing.T, e environment) {
		_, err := e.startCluster(t.Context(), map[string]string{"no_such_setting": "1"})
		require.ErrorContains(t, err, "no_such_setting")
		require.ErrorContains(t, err, "last lines of its log")
	})
}
