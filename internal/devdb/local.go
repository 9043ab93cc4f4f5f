package devdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// localServer is a cluster in a temporary directory of this machine.
type localServer struct {
	installation
	dir       string // data, log, and usually the socket
	socketDir string
	runAs     *account
	settings  map[string]string
	dog       *watchdog

	process *os.Process
	exited  chan struct{} // closed when process has ended
	killed  bool
}

// local is the source of servers on this machine.
func (e environment) local(ctx context.Context, settings map[string]string) (server, string, error) {
	const name = "PostgreSQL on this machine"
	if e.from == fromDocker {
		return nil, "", &absentError{name, fmt.Errorf("%s=%s rules it out", fromVariable, e.from)}
	}
	if runtime.GOOS == "windows" {
		return nil, "", &absentError{name, errors.ErrUnsupported}
	}
	found, err := findInstallation(ctx, e.binDirs(ctx))
	if err != nil {
		return nil, "", &absentError{name, err}
	}
	runAs, err := serverAccount()
	if err != nil {
		return nil, "", &absentError{name, err}
	}
	s, err := newLocalServer(found, runAs, settings)
	if err != nil {
		return nil, "", err
	}
	url, err := s.create(ctx)
	if err != nil {
		return nil, "", errors.Join(err, s.remove())
	}
	return s, url, nil
}

// newLocalServer makes the directories, and sets a watchdog over them.
func newLocalServer(found installation, runAs *account, settings map[string]string) (*localServer, error) {
	dir, err := makeDir(tempDir(runAs), runAs)
	if err != nil {
		return nil, err
	}
	s := &localServer{installation: found, dir: dir, socketDir: dir, runAs: runAs}
	// A socket's address holds 103 bytes on macOS, 107 on Linux; PostgreSQL refuses a longer one.
	if len(filepath.Join(dir, ".s.PGSQL.5432")) > 103 {
		if s.socketDir, err = makeDir("/tmp", runAs); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	s.settings = map[string]string{
		"listen_addresses":        "",
		"unix_socket_directories": `"` + s.socketDir + `"`, // quoted: a comma would separate two
		"max_connections":         "500",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
	}
	maps.Copy(s.settings, settings)
	if s.dog, err = startWatchdog(nil, s.directories()...); err != nil {
		return nil, errors.Join(err, s.removeDirectories())
	}
	return s, nil
}

// create initialises the cluster, starts it, and creates the database.
func (s *localServer) create(ctx context.Context) (string, error) {
	if err := s.initialise(ctx); err != nil {
		return "", err
	}
	conn, err := s.run(ctx, "postgres")
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is at stake
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+databaseName); err != nil {
		return "", fmt.Errorf("create database %s: %w", databaseName, err)
	}
	return s.url(databaseName), nil
}

func (s *localServer) initialise(ctx context.Context) error {
	locale := "C"
	if runtime.GOOS == "linux" {
		locale = "C.UTF-8" // knows letters beyond ASCII; macOS has no such locale
	}
	return s.runTool(exec.CommandContext(ctx, s.program("initdb"),
		"--pgdata="+s.data(), "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale="+locale,
		"--no-sync", "--no-instructions"))
}

// runTool runs a program that makes the data directory.
func (s *localServer) runTool(cmd *exec.Cmd) error {
	// Interrupted, it stops its own children; killed, it would leave them to write on.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	name := filepath.Base(cmd.Path)
	if err := s.spawn(cmd); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	err := cmd.Wait()
	s.dog.process(0)
	if err != nil {
		return s.withLog(fmt.Errorf("%s: %w", name, err))
	}
	return nil
}

// start starts the server again.
func (s *localServer) start(ctx context.Context) (string, error) {
	if s.running() {
		return "", errRunning
	}
	conn, err := s.run(ctx, databaseName)
	if err != nil {
		return "", err
	}
	_ = conn.Close(ctx)
	return s.url(databaseName), nil
}

// run starts the server, and connects to the database once it answers.
func (s *localServer) run(ctx context.Context, database string) (*pgx.Conn, error) {
	args := []string{"-D", s.data()}
	for _, name := range slices.Sorted(maps.Keys(s.settings)) {
		args = append(args, "-c", name+"="+s.settings[name])
	}
	cmd := exec.Command(s.program("postgres"), args...) // outlives ctx
	if err := s.spawn(cmd); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	exited := make(chan struct{})
	s.process, s.exited, s.killed = cmd.Process, exited, false
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		s.dog.process(0)
		close(exited)
	}()

	var conn *pgx.Conn
	err := poll(ctx, 10*time.Millisecond, startTimeout, func(ctx context.Context) (bool, error) {
		if !s.running() {
			return true, errors.New("it ended at once")
		}
		var err error
		conn, err = pgx.Connect(ctx, s.url(database))
		return err == nil, err
	})
	if err != nil {
		return nil, s.withLog(fmt.Errorf("wait until it answers: %w", err))
	}
	return conn, nil
}

// spawn starts a program of the server's in a session of its own, under the watchdog's eyes.
func (s *localServer) spawn(cmd *exec.Cmd) error {
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the program has its own copy
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = detached(s.runAs)
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC"} // a TZ spares initdb a search through all time zones
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PG") && !strings.HasPrefix(variable, "LC_") && !strings.HasPrefix(variable, "TZ=") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.dog.process(cmd.Process.Pid)
	return nil
}

func (s *localServer) running() bool {
	if s.process == nil {
		return false
	}
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

func (s *localServer) kill() error {
	if !s.running() {
		return errNotRunning
	}
	if err := killTree(s.process); err != nil {
		return err
	}
	<-s.exited
	s.killed = true
	return nil
}

func (s *localServer) remove() error {
	if s.killed {
		// A killed server leaves shared memory in the kernel, which only its restart finds and frees.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, _ = s.start(ctx) // a broken cluster is removed all the same
	}
	err := errors.Join(s.stop(), s.removeDirectories())
	s.dog.release()
	return err
}

// stop shuts the server down at once.
func (s *localServer) stop() error {
	if !s.running() {
		return nil
	}
	if err := shutDown(s.process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("shut down process %d: %w", s.process.Pid, err)
	}
	patience := time.NewTimer(10 * time.Second)
	defer patience.Stop()
	select {
	case <-s.exited:
		return nil
	case <-patience.C:
		return s.kill()
	}
}

func (s *localServer) removeDirectories() error {
	var err error
	for _, dir := range s.directories() {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

func (s *localServer) directories() []string {
	if s.socketDir == s.dir {
		return []string{s.dir}
	}
	return []string{s.dir, s.socketDir}
}

func (s *localServer) binDir() string { return s.installation.binDir }

func (s *localServer) program(name string) string { return filepath.Join(s.installation.binDir, name) }

func (s *localServer) data() string { return filepath.Join(s.dir, "data") }

func (s *localServer) log() string { return filepath.Join(s.dir, "log") }

// url names the port too: PGPORT would otherwise change it.
func (s *localServer) url(database string) string {
	query := "host=" + strings.ReplaceAll(url.QueryEscape(s.socketDir), "%2F", "/") + "&port=5432"
	return (&url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/" + database, RawQuery: query}).String()
}

// withLog adds the last lines of the server's log to an error.
func (s *localServer) withLog(err error) error {
	text, readErr := os.ReadFile(s.log())
	if readErr != nil {
		return err
	}
	return withLines(err, text)
}

// withLines adds the last of the lines to an error.
func withLines(err error, text []byte) error {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	lines = lines[max(0, len(lines)-20):]
	return fmt.Errorf("%w; the last lines of its log:\n%s", err, bytes.Join(lines, []byte("\n")))
}
