//go:build unix

package devdb

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// detached starts a child in a session of its own, as the account (nil: as ourselves).
func detached(as *account) *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Setsid: true}
	if as != nil {
		attributes.Credential = &syscall.Credential{Uid: as.uid, Gid: as.gid}
	}
	return attributes
}

// shutDown asks a postmaster for an immediate shutdown.
func shutDown(postmaster *os.Process) error {
	return postmaster.Signal(syscall.SIGQUIT)
}

// killTree kills a process and all its children at one moment, as a power cut would.
func killTree(parent *os.Process) error {
	// A stopped parent starts no more children, reacts to no child's death, and keeps their ids from being used again.
	if err := parent.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop process %d: %w", parent.Pid, err)
	}
	err := waitForTable(func(table map[int]process) bool { return strings.HasPrefix(table[parent.Pid].state, "T") })
	if err != nil {
		return fmt.Errorf("stop process %d: %w", parent.Pid, err)
	}
	table, err := processTable()
	if err != nil {
		return err
	}
	var children []int
	for pid, p := range table {
		if p.parent == parent.Pid {
			children = append(children, pid)
		}
	}
	for _, pid := range children {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone already
	}
	if err := parent.Kill(); err != nil {
		return fmt.Errorf("kill process %d: %w", parent.Pid, err)
	}
	return waitForTable(func(table map[int]process) bool {
		for _, pid := range children {
			if p, ok := table[pid]; ok && !strings.HasPrefix(p.state, "Z") {
				return false
			}
		}
		return true
	})
}

// process is a row of the process table.
type process struct {
	parent int
	state  string // as ps shows it: "T" stopped, "Z" dead and not yet collected
}

// waitForTable reads the process table until the condition holds, for some seconds at most.
func waitForTable(holds func(map[int]process) bool) error {
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		table, err := processTable()
		if err != nil {
			return err
		}
		if holds(table) {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("wait for processes: %w", os.ErrDeadlineExceeded)
		}
	}
}

// processTable reads Linux's /proc, since a container may lack ps, and asks ps elsewhere.
func processTable() (map[int]process, error) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well-formed
	if len(files) == 0 {
		return processTableFromPS()
	}
	table := make(map[int]process, len(files))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended since
		}
		// pid (name) state ppid …, and the name may hold spaces and parentheses.
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		rest := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if err != nil || len(rest) < 2 {
			continue
		}
		parent, _ := strconv.Atoi(rest[1])
		table[pid] = process{parent: parent, state: rest[0]}
	}
	return table, nil
}

func processTableFromPS() (map[int]process, error) {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=,state=").Output()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	table := map[int]process{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		pid, _ := strconv.Atoi(fields[0])
		parent, _ := strconv.Atoi(fields[1])
		table[pid] = process{parent: parent, state: fields[2]}
	}
	return table, nil
}
