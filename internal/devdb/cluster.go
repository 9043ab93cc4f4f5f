package devdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// databaseName is the database in every server that this package starts.
const databaseName = "hindsight"

// Cluster is a PostgreSQL server of its own, with the database "hindsight", that can be killed and started again.
// Its methods may be called from many goroutines.
type Cluster struct {
	server server

	mu     sync.Mutex
	url    string
	closed bool
}

// server is a running PostgreSQL: on this machine or in a container.
type server interface {
	fmt.Stringer // where it runs, for people
	// start starts it again after a kill and returns its URL, once it answers.
	start(ctx context.Context) (string, error)
	// kill ends all its processes at one moment, and returns when they are gone.
	kill() error
	// standby starts a streaming replica of it.
	standby(ctx context.Context) (server, string, error)
	// remove stops it and removes all its data.
	remove() error
	binDir() string
}

// StartCluster starts a server, whatever HINDSIGHT_DATABASE_URL says: on this machine, or else with Docker. It keeps
// PostgreSQL's durable defaults (fsync, synchronous_commit); settings are server settings that override defaults, for
// example {"max_prepared_transactions": "10"}. The error is an [*UnavailableError] where nothing can be had.
func StartCluster(ctx context.Context, settings map[string]string) (*Cluster, error) {
	return environmentOf(os.Getenv).startCluster(ctx, settings)
}

func (e environment) startCluster(ctx context.Context, settings map[string]string) (*Cluster, error) {
	if err := e.validate(); err != nil {
		return nil, err
	}
	return e.startFirst(ctx, settings, e.local, e.docker)
}

// source starts a server, or says in an *absentError that there is none to start.
type source func(context.Context, map[string]string) (server, string, error)

// absentError is why a source has no server to start: the next one is asked.
type absentError struct {
	source string
	err    error
}

func (e *absentError) Error() string { return e.source + ": " + e.err.Error() }

func (e *absentError) Unwrap() error { return e.err }

// startFirst starts the first server that can be had.
func (e environment) startFirst(ctx context.Context, settings map[string]string, sources ...source) (*Cluster, error) {
	var tried []Attempt
	for _, start := range sources {
		server, url, err := start(ctx, settings)
		if err == nil {
			return &Cluster{server: server, url: url}, nil
		}
		var absent *absentError
		if ctx.Err() != nil || !errors.As(err, &absent) {
			return nil, fmt.Errorf("start PostgreSQL: %w", err)
		}
		tried = append(tried, Attempt{Source: absent.source, Err: absent.err})
	}
	return nil, &UnavailableError{Tried: tried}
}

// URL returns a connection string for pgx and for psql. It may change with [Cluster.Start].
func (c *Cluster) URL() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.url
}

// BinDir returns the directory of the server's programs (pg_dump, pgbench, …), or "" for a server in a container.
func (c *Cluster) BinDir() string {
	return c.server.binDir()
}

// Kill ends all processes of the server at one moment by SIGKILL: a crash. Its data stays for [Cluster.Start].
func (c *Cluster) Kill() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return fmt.Errorf("kill PostgreSQL: %w", errClosed)
	}
	if err := c.server.kill(); err != nil {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	return nil
}

// Start starts a killed server again on the data it left, and returns when it has recovered and answers.
func (c *Cluster) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return fmt.Errorf("start PostgreSQL again: %w", errClosed)
	}
	url, err := c.server.start(ctx)
	if err != nil {
		return fmt.Errorf("start PostgreSQL again: %w", err)
	}
	c.url = url
	return nil
}

// Close stops the server and removes it with all its data. Further calls do nothing.
func (c *Cluster) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	if err := c.server.remove(); err != nil {
		return fmt.Errorf("remove PostgreSQL: %w", err)
	}
	return nil
}

var (
	errClosed     = errors.New("it is closed")
	errNotRunning = errors.New("it is not running")
	errRunning    = errors.New("it is running")
)

// startTimeout bounds the wait for a server that is alive but does not answer; recovery after a kill is part of it.
const startTimeout = 2 * time.Minute

// poll tries again and again until a try is the last one, and returns its error. On a timeout it returns that and the
// error of the latest try.
func poll(ctx context.Context, every, timeout time.Duration, try func(context.Context) (last bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		last, err := try(ctx)
		if last {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}
