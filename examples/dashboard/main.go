// Command dashboard writes the analytics of recorded discussions as one page that needs nothing else: charts as SVG, and with
// each the SQL it was made with and its rows. It imports the recordings into a throwaway log, which it removes.
//
//	go run ./dashboard [-out dashboard.html] [recording.ndjson[.gz] ...]
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"os"

	"github.com/sight-platform/hindsight/examples/internal/command"
)

func main() {
	path := flag.String("out", "dashboard.html", "write the page to this file")
	flag.Parse()
	command.Main("dashboard", func(ctx context.Context) error { return run(ctx, *path, flag.Args(), os.Stdout) })
}

// run is the whole program. The log that it makes is gone when it returns.
func run(ctx context.Context, path string, recordings []string, out io.Writer) (err error) {
	log, err := command.Open(ctx, recordings)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close(context.WithoutCancel(ctx))) }()
	if err := buildStar(ctx, log.Store); err != nil {
		return err
	}
	return writePage(ctx, log.Store, path, out)
}
