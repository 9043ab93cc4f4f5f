//go:build unix

package devdb

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"
)

func TestServerVanishesWithTheProcess(t *testing.T) {
	for name, end := range map[string]func(*os.Process) error{
		"SIGKILL": (*os.Process).Kill,
		// What a terminal sends to everybody in the foreground.
		"Ctrl-C": func(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGINT) },
	} {
		t.Run(name, func(t *testing.T) {
			forEachSource(t, func(t *testing.T, e environment) {
				cmd, servers := startHelper(t, e.from)
				for _, gone := range servers {
					require.False(t, gone())
				}
				require.NoError(t, end(cmd.Process))
				require.Error(t, cmd.Wait())
				for what, gone := range servers {
					require.Eventually(t, gone, 20*time.Second, 10*time.Millisecond, "%s is still here", what)
				}
			})
		})
	}
}

func TestCloseWorksWithoutTheWatchdog(t *testing.T) {
	forEachSource(t, func(t *testing.T, e environment) {
		cluster, err := e.startCluster(t.Context(), nil)
		require.NoError(t, err)
		var dog *watchdog
		switch server := cluster.server.(type) {
		case *localServer:
			dog = server.dog
		case *dockerServer:
			dog = server.dog
		}
		require.NoError(t, dog.cmd.Process.Kill())
		gone := removed(t, cluster.server)
		require.NoError(t, cluster.Close())
		require.True(t, gone())
	})
}

// startHelper starts a process that opens a database and a standby of it. It returns, by the servers' directories or
// containers, what tells whether they are gone.
func startHelper(t *testing.T, from string) (cmd *exec.Cmd, servers map[string]func() bool) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), helperVariable+"="+from)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewReader(out)
	servers = map[string]func() bool{}
	for range 2 {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		var what string
		var pid int
		_, err = fmt.Sscan(line, &what, &pid)
		require.NoError(t, err)
		servers[what] = vanished(t, from, what, pid)
	}
	require.Len(t, servers, 2)
	return cmd, servers
}

// removed tells whether anything is left of a server.
func removed(t *testing.T, s server) func() bool {
	t.Helper()
	switch s := s.(type) {
	case *localServer:
		dirs := []func() bool{vanished(t, fromLocal, s.dir, s.process.Pid), vanished(t, fromLocal, s.socketDir, s.process.Pid)}
		return func() bool { return dirs[0]() && dirs[1]() }
	case *dockerServer:
		return vanished(t, fromDocker, s.container.GetContainerID(), 0)
	default:
		return nil
	}
}

// vanished tells whether a directory and the server in it, or a container, is gone.
func vanished(t *testing.T, from, what string, pid int) func() bool {
	t.Helper()
	if from == fromLocal {
		return func() bool {
			_, err := os.Stat(what)
			table, tableErr := processTable()
			require.NoError(t, tableErr)
			p, ok := table[pid]
			return errors.Is(err, fs.ErrNotExist) && (!ok || p.state == "Z")
		}
	}
	engine, err := findEngine(t.Context())
	require.NoError(t, err)
	return func() bool {
		_, err := engine.api.ContainerInspect(t.Context(), what, client.ContainerInspectOptions{})
		return err != nil
	}
}
