// Command demo imports recorded focus groups into a throwaway log, replays one, folds its state at three moments and
// shows what a live follower sees while others append. It needs PostgreSQL from anywhere devdb can find one, and removes
// everything it made. Without -recording it uses the two recordings it carries.
//
//	go run ./demo [-recording file.ndjson[.gz]]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	recording := flag.String("recording", "", "a recording, or a file of the corpus, gzipped or not (default: two that the demo carries)")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "demo: unexpected argument %q; a file is given with -recording\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	err := run(ctx, os.Stdout, *recording)
	interrupted := err != nil && ctx.Err() != nil
	stop()
	switch {
	case interrupted && !errors.Is(err, errLeftBehind): // what failed because of it is of no interest
		fmt.Fprintln(os.Stderr, "demo: interrupted; nothing is left behind")
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}
