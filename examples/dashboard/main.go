// Command dashboard writes the analytics of recorded discussions as one page that needs nothing else: charts as SVG, and with
// each the SQL it was made with and its rows. It imports the recordings into a throwaway log, which it removes.
//
//	go run ./dashboard [-out dashboard.html] [recording.ndjson[.gz] ...]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/examples/internal/command"
	"github.com/sight-platform/hindsight/internal/corpus"
)

func main() {
	path := flag.String("out", "dashboard.html", "write the page to this file")
	flag.Parse()
	command.Main("dashboard", func(ctx context.Context) error { return run(ctx, *path, flag.Args(), os.Stdout) })
}

// run is the whole program. The log that it makes is gone when it returns.
func run(ctx context.Context, path string, recordings []string, out io.Writer) (err error) {
	if len(recordings) == 0 {
		recordings = command.Recordings()
	}
	for _, recording := range recordings { // before the database: what is mistyped is told at once
		if _, err := os.Stat(recording); err != nil {
			return fmt.Errorf("looking for the recording: %w", err)
		}
	}
	log, err := eventstoretest.Open(ctx, eventstore.Config{Codec: focusgroup.Codec()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close(context.WithoutCancel(ctx))) }()
	for _, recording := range recordings {
		if err := importFile(ctx, log.Store, recording); err != nil {
			return fmt.Errorf("importing %s: %w", filepath.Base(recording), err)
		}
	}
	if err := buildStar(ctx, log.Store); err != nil {
		return err
	}
	return writePage(ctx, log.Store, path, out)
}

func importFile(ctx context.Context, store *eventstore.Store, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	_, err = focusgroup.Import(ctx, store, corpus.ReadAny(file))
	return err
}
