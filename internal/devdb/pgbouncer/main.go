//go:build unix

// Command pgbouncer runs a command with HINDSIGHT_DATABASE_URL set to a throwaway PostgreSQL behind a PgBouncer in
// transaction mode (HINDSIGHT_DATABASE_DIRECT_URL leads past it), and removes both when the command ends, or is killed.
// `make test-pgbouncer` runs it.
//
//	go run ./internal/devdb/pgbouncer go test -count=1 ./...
//
// It fails where the command fails, and also where the pooler does not share connections, or the command went past it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/devdb"
)

// poolSize is less than what the tests' pools hold together (32 each), and more than the transactions that they have open
// at a time: one that had to wait for a connection would wait for a test that waits for it.
const poolSize = 60

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pgbouncer:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, command []string) (err error) {
	if len(command) == 0 {
		return errors.New("usage: pgbouncer COMMAND [ARGUMENT...]")
	}
	cluster, err := devdb.StartCluster(ctx, map[string]string{"fsync": "off", "full_page_writes": "off"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	pooler, err := cluster.StartPooler(ctx, poolSize)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pooler.Close()) }()
	if err := checkSharing(ctx, pooler.URL()); err != nil {
		return err
	}
	before, err := pooler.Transactions(ctx)
	if err != nil {
		return err
	}
	if err := runCommand(ctx, command, "HINDSIGHT_DATABASE_URL="+pooler.URL(), "HINDSIGHT_DATABASE_DIRECT_URL="+cluster.URL()); err != nil {
		return err
	}
	after, err := pooler.Transactions(ctx)
	if err != nil {
		return err
	}
	if after == before {
		return fmt.Errorf("%s used no connection through the pooler", command[0])
	}
	fmt.Printf("pgbouncer: %d transactions went through %d connections at most\n", after-before, poolSize)
	return nil
}

// checkSharing makes sure of the transaction mode: sessions that do nothing at the moment leave their connection to others.
func checkSharing(ctx context.Context, url string) error {
	const clients = 5
	backends := map[int32]bool{}
	for range clients {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(ctx) //nolint:errcheck // all are open at the same time; nothing is at stake
		var backend int32
		if err := conn.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&backend); err != nil {
			return err
		}
		backends[backend] = true
	}
	if len(backends) == clients {
		return fmt.Errorf("the pooler gave %d idle sessions a connection each: it is not in transaction mode", clients)
	}
	return nil
}

// runCommand runs the command in a process group of its own: when we are told to end, all of the group is asked to, and what
// is left of it when the command has ended is killed.
func runCommand(ctx context.Context, command []string, settings ...string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "HINDSIGHT_DATABASE_") // HINDSIGHT_DATABASE_FROM would go before the URL
	}), settings...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil && cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", strings.Join(command, " "), err)
	}
	return nil
}
