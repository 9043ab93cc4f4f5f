// Package command is what the examples with flags have in common.
package command

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
)

// Main runs a program until it is done or interrupted, and ends the process. A second Ctrl-C ends it at once.
func Main(name string, run func(context.Context) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx)
	interrupted := err != nil && ctx.Err() != nil
	stop()
	switch {
	case interrupted:
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
}

// Recordings are the demo's, the English one first, wherever the program is run from.
func Recordings() []string {
	_, file, _, _ := runtime.Caller(0)
	folder := filepath.Join(filepath.Dir(file), "..", "..", "demo", "recordings")
	return []string{filepath.Join(folder, "checkout-en.ndjson"), filepath.Join(folder, "opakowania-pl.ndjson")}
}
