package devdb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"

	"github.com/jackc/pgx/v5"
	"github.com/testcontainers/testcontainers-go"
)

// StartStandby starts a streaming replica of the cluster, with data, a watchdog and a Close of its own, and returns when
// it answers; it reads, and refuses to write. The SQL function pg_promote makes a primary of it. The cluster must run.
// It may be closed before its standby, or after.
func (c *Cluster) StartStandby(ctx context.Context) (*Cluster, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("start a standby: %w", errClosed)
	}
	server, url, err := c.server.standby(ctx)
	if err != nil {
		return nil, fmt.Errorf("start a standby: %w", err)
	}
	return &Cluster{server: server, url: url}, nil
}

// standby starts a replica with the same settings: hot standby needs some of them to be no lower than the primary's.
func (s *localServer) standby(ctx context.Context) (server, string, error) {
	if !s.running() {
		return nil, "", errNotRunning
	}
	settings := maps.Clone(s.settings)
	delete(settings, "unix_socket_directories")
	replica, err := newLocalServer(s.installation, s.runAs, settings)
	if err != nil {
		return nil, "", err
	}
	if err := replica.copyFrom(ctx, s); err != nil {
		return nil, "", errors.Join(err, replica.remove())
	}
	url, err := replica.start(ctx)
	if err != nil {
		return nil, "", errors.Join(err, replica.remove())
	}
	return replica, url, nil
}

// copyFrom makes the data directory of a standby from a running primary.
func (s *localServer) copyFrom(ctx context.Context, primary *localServer) error {
	return s.runTool(exec.CommandContext(ctx, s.program("pg_basebackup"),
		"--pgdata="+s.data(), "--host="+primary.socketDir, "--port=5432", "--username=postgres", "--no-password",
		"--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"))
}

// standby runs a second container of the image, which copies the first over Docker's network and follows it there.
func (s *dockerServer) standby(ctx context.Context) (server, string, error) {
	host, err := s.letReplicate(ctx)
	if err != nil {
		return nil, "", err
	}
	replica, err := newDockerServer(s.engine, s.image, s.settings)
	if err != nil {
		return nil, "", err
	}
	// The condition is for the container's restart after a kill.
	const script = `[ -s "$PGDATA/PG_VERSION" ] ||
  pg_basebackup --pgdata="$PGDATA" --host="$0" --username=postgres --no-password --write-recovery-conf --checkpoint=fast &&
exec "$@" -c unix_socket_directories=/tmp`
	url, err := replica.create(ctx,
		testcontainers.WithEnv(map[string]string{"PGDATA": "/tmp/standby"}),
		testcontainers.WithCmd(append(
			[]string{"setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "bash", "-c", script, host},
			replica.command()...)...))
	if err != nil {
		return nil, "", errors.Join(err, replica.remove())
	}
	return replica, url, nil
}

// letReplicate allows other containers to replicate from this one, and returns its address among them.
func (s *dockerServer) letReplicate(ctx context.Context) (string, error) {
	const allow = `echo 'host replication all all trust' >>"$PGDATA/pg_hba.conf"`
	if status, _, err := s.container.Exec(ctx, []string{"bash", "-c", allow}); err != nil || status != 0 {
		return "", errors.Join(fmt.Errorf("allow replication in pg_hba.conf: status %d", status), err)
	}
	url, err := s.container.ConnectionString(ctx, "sslmode=disable")
	if err != nil {
		return "", err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is at stake
	if _, err := conn.Exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return "", err
	}
	return s.container.ContainerIP(ctx)
}
