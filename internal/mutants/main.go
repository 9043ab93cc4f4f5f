// Command mutants takes the mechanisms behind the numbered guarantees out, one at a time, and shows the test that turns
// red. A mutant that no test notices fails the run.
//
//	go run ./internal/mutants [-only PREFIX]
//
// The tree is not touched: each mutant is an overlay for go test.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// mutant is a change of one file and the test that must notice it.
type mutant struct {
	name  string
	file  string
	swaps []swap
	pkg   string
	test  string
}

// swap replaces a text that must stand in the file exactly once.
type swap struct{ old, new string }

// testTimeout bounds a mutant whose test would wait for ever.
const testTimeout = 5 * time.Minute

func main() {
	only := flag.String("only", "", "run the mutants whose name begins with this")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *only); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, only string) error {
	var survived atomic.Int64
	ran := 0
	atOnce, ctx := errgroup.WithContext(ctx)
	atOnce.SetLimit(runtime.NumCPU()) // half of the time goes into compiling
	for _, m := range mutants() {
		if !strings.HasPrefix(m.name, only) {
			continue
		}
		ran++
		atOnce.Go(func() error {
			started := time.Now()
			verdict := survivor
			for try := 1; try <= tries && verdict == survivor; try++ {
				var err error
				if verdict, err = m.run(ctx); err != nil {
					return fmt.Errorf("%s: %w", m.name, err)
				}
				if try > 1 && verdict == killed {
					verdict = fmt.Sprintf("%s, in run %d", killed, try)
				}
			}
			fmt.Printf("%-56s %-44s %s (%.0f s)\n", m.name, m.test, verdict, time.Since(started).Seconds())
			if verdict == survivor {
				survived.Add(1)
			}
			return nil
		})
	}
	if err := atOnce.Wait(); err != nil {
		return err
	}
	if ran == 0 {
		return fmt.Errorf("no mutant's name begins with %q", only)
	}
	if n := survived.Load(); n > 0 {
		return fmt.Errorf("%d of %d mutants survived", n, ran)
	}
	fmt.Printf("%d mutants, each turns its test red\n", ran)
	return nil
}

const (
	killed   = "red, as it must be"
	survivor = "SURVIVED: the test passes without the mechanism"
	// Some tests race real sessions, and may miss a race on a busy machine.
	tries = 3
)

// run tests the mutant and says what became of it.
func (m mutant) run(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp("", "hindsight-mutant-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	overlay, err := m.writeOverlay(dir)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-vet=off", "-ldflags=-s -w", "-overlay", overlay, "-run", "^("+m.test+")$", m.pkg)
	out, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err == nil:
		return survivor, nil
	case !errors.As(err, &failed):
		return "", err
	case !testFailed().Match(out): // it did not compile
		return "", fmt.Errorf("the test did not run:\n%s", out)
	}
	return killed, nil
}

// testFailed is how a test says that it failed: by itself, or by the whole program, which a panic in another goroutine ends.
func testFailed() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^(\s*--- FAIL|FAIL\s+\S+\s+[\d.]+s$)`)
}

func (m mutant) writeOverlay(dir string) (string, error) {
	source, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(source)
	if err != nil {
		return "", err
	}
	changed := string(text)
	for _, s := range m.swaps {
		if n := strings.Count(changed, s.old); n != 1 {
			return "", fmt.Errorf("%s holds %q %d times, want once: bring the mutant up to date", m.file, s.old, n)
		}
		changed = strings.Replace(changed, s.old, s.new, 1)
	}
	replacement := filepath.Join(dir, filepath.Base(m.file))
	if err := os.WriteFile(replacement, []byte(changed), 0o600); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {source: replacement}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, list, 0o600)
}
