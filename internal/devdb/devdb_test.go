package devdb

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// helperVariable makes the test binary a process that opens a database from the source it names, and a standby of it,
// prints what there is to clean up, a line for each, and waits to be killed.
const helperVariable = "DEVDB_TEST_HELPER"

func TestMain(m *testing.M) {
	if from := os.Getenv(helperVariable); from != "" {
		fmt.Fprintln(os.Stderr, helper(from))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func helper(from string) error {
	database, err := only(from).open(context.Background())
	if err != nil {
		return err
	}
	standby, err := database.cluster.StartStandby(context.Background())
	if err != nil {
		return err
	}
	for _, cluster := range []*Cluster{database.cluster, standby} {
		switch server := cluster.server.(type) {
		case *localServer:
			fmt.Println(server.dir, server.process.Pid)
		case *dockerServer:
			fmt.Println(server.container.GetContainerID(), 0)
		}
	}
	select {}
}

// only is this machine's environment with one source.
func only(from string) environment {
	e := environmentOf(os.Getenv)
	e.from = from
	return e
}

// sources names the sources that this machine has, of those that HINDSIGHT_DATABASE_FROM allows.
func sources(t *testing.T) []string {
	t.Helper()
	e := environmentOf(os.Getenv)
	if e.from != fromAnywhere {
		return []string{e.from}
	}
	var names []string
	if _, err := findInstallation(t.Context(), findBinDirs(t.Context())); err == nil {
		names = append(names, fromLocal)
	}
	if engine, err := findEngine(t.Context()); err == nil {
		if _, err := engine.api.ImageInspect(t.Context(), e.image); err == nil {
			names = append(names, fromDocker)
		}
	}
	require.NotEmpty(t, names, "no database for tests: run `make setup`")
	return names
}

// forEachSource runs the test with each source that this machine has.
func forEachSource(t *testing.T, test func(*testing.T, environment)) {
	t.Helper()
	for _, from := range sources(t) {
		t.Run(from, func(t *testing.T) { test(t, only(from)) })
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func queryText(t *testing.T, conn *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	var text string
	require.NoError(t, conn.QueryRow(t.Context(), sql, args...).Scan(&text))
	return text
}
