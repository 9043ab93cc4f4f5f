package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore"
)

// A follower is this program once more, as a child. It follows a log from its start, says "ready" when it has caught up,
// and at the end prints when it was given each event after that:
//
//	parent ──spec (environment)──► child
//	       ◄──────"ready"─────────
//	       ──closes stdin────────►  (only if the child still waits for events)
//	       ◄──────[]delivery──────

// followerVariable holds the spec of a process that is to be a follower.
const followerVariable = "HINDSIGHT_BENCH_FOLLOWER"

// followerSpec is what a follower does.
type followerSpec struct {
	URL    string
	Schema string
	Raw    bool // polls the raw table
	Known  int  // events that are there already
	Events int  // with those that will come
}

// delivery is when a follower was given an event.
type delivery struct {
	place
	At time.Time
}

var errEnough = errors.New("all events were delivered")

// followerMain is the child's program.
func followerMain(text string) int {
	var spec followerSpec
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // the parent closes stdin, or is gone
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	err := json.Unmarshal([]byte(text), &spec)
	if err == nil {
		err = spec.follow(ctx, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "follower:", err)
		return 1
	}
	return 0
}

func (spec followerSpec) follow(ctx context.Context, out io.Writer) error {
	pool, err := pgxpool.New(ctx, spec.URL)
	if err != nil {
		return err
	}
	defer pool.Close()
	deliveries := make([]delivery, 0, spec.Events)
	deliver := func(at place) bool {
		deliveries = append(deliveries, delivery{at, time.Now()})
		if len(deliveries) == spec.Known {
			say(out, "ready\n")
		}
		return len(deliveries) < spec.Events
	}
	if spec.Raw {
		err = rawLog{schema: spec.Schema}.follow(ctx, pool, deliver)
	} else {
		err = followStore(ctx, pool, spec.Schema, deliver)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, errEnough) {
		return err
	}
	return json.NewEncoder(out).Encode(deliveries[min(spec.Known, len(deliveries)):])
}

func followStore(ctx context.Context, pool *pgxpool.Pool, schema string, deliver func(place) bool) error {
	store, err := eventstore.New(pool, eventstore.Config{Schema: schema})
	if err != nil {
		return err
	}
	for event, err := range store.Follow(ctx, 0, eventstore.Filter{}) {
		if err != nil {
			return err
		}
		if !deliver(place{event.StreamID, event.Version}) {
			return errEnough
		}
	}
	return nil
}

// follower is the child as its parent sees it.
type follower struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
}

// startFollower starts a child and returns when it has caught up.
func startFollower(ctx context.Context, spec followerSpec) (*follower, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), followerVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting a follower: %w", err)
	}
	f := &follower{cmd, stdin, bufio.NewReader(stdout)}
	if line, err := f.out.ReadString('\n'); line != "ready\n" {
		f.kill()
		return nil, fmt.Errorf("waiting for a follower to catch up: it said %q: %w", line, err)
	}
	return f, nil
}

// patience is how long a follower may take for the last events; what it has not been given then, it has skipped.
const patience = 2 * time.Second

// finish returns when each event was delivered.
func (f *follower) finish() (map[place]time.Time, error) {
	timer := time.AfterFunc(patience, func() { _ = f.stdin.Close() })
	defer timer.Stop()
	var deliveries []delivery
	err := json.NewDecoder(f.out).Decode(&deliveries)
	if err != nil {
		f.kill()
		return nil, fmt.Errorf("reading what a follower was given: %w", err)
	}
	_ = f.stdin.Close()
	if err := f.cmd.Wait(); err != nil {
		return nil, fmt.Errorf("ending a follower: %w", err)
	}
	delivered := make(map[place]time.Time, len(deliveries))
	for _, d := range deliveries {
		delivered[d.place] = d.At
	}
	return delivered, nil
}

func (f *follower) kill() {
	_ = f.cmd.Process.Kill() // it may have ended
	_ = f.cmd.Wait()
}
