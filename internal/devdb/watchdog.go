package devdb

import (
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
)

//go:embed watchdog.sh
var watchdogScript string

// watchdog is a shell that outlives our process by a moment, to stop a server and remove its directories.
// The zero value watches nothing.
type watchdog struct {
	cmd *exec.Cmd

	mu   sync.Mutex
	pipe io.WriteCloser // our end; the shell acts when it closes, and the kernel closes it however we end
}

// startWatchdog starts a watchdog over the directories, with additional environment variables.
func startWatchdog(env []string, directories ...string) (*watchdog, error) {
	if runtime.GOOS == "windows" {
		return &watchdog{}, nil
	}
	// os.Pipe marks both ends close-on-exec: no child of ours holds the write end open after us.
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start watchdog: %w", err)
	}
	defer reader.Close() //nolint:errcheck // the shell has its own copy

	cmd := exec.Command("sh", append([]string{"-c", watchdogScript, "hindsight-watchdog"}, directories...)...)
	cmd.Stdin = reader
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), env...)
	// A session of its own: a Ctrl-C at the terminal is for us alone. No output: go test waits for whoever holds its pipes.
	cmd.SysProcAttr = detached(nil)
	if err := cmd.Start(); err != nil {
		_ = writer.Close()
		return nil, fmt.Errorf("start watchdog: %w", err)
	}
	return &watchdog{cmd: cmd, pipe: writer}, nil
}

// process says which process to stop; 0 is none.
func (w *watchdog) process(pid int) {
	if pid == 0 {
		w.tell("process")
		return
	}
	w.tell("process " + strconv.Itoa(pid))
}

// container says which container to remove; "" is none.
func (w *watchdog) container(id string) {
	w.tell("container " + id)
}

func (w *watchdog) tell(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pipe != nil {
		_, _ = io.WriteString(w.pipe, line+"\n") // it fails when somebody killed the shell: Close still cleans up
	}
}

// release lets the watchdog do what is left to do, and waits for its end.
func (w *watchdog) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pipe == nil {
		return
	}
	_ = w.pipe.Close()
	w.pipe = nil
	_ = w.cmd.Wait() // somebody may have killed it: there is nothing to do about that
}
