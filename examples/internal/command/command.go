// Package command is what the examples with flags have in common.
package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/corpus"
	"github.com/sight-platform/hindsight/internal/devdb"
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

// Open makes a throwaway log that holds recordings, or the demo's if there are none. The caller closes it.
func Open(ctx context.Context, recordings []string) (log *eventstoretest.Log, err error) {
	if len(recordings) == 0 {
		recordings = Recordings()
	}
	for _, recording := range recordings { // before the database: what is mistyped is told at once
		if _, err := os.Stat(recording); err != nil {
			return nil, fmt.Errorf("looking for the recording: %w", err)
		}
	}
	log, err = eventstoretest.Open(ctx, eventstore.Config{Codec: focusgroup.Codec()})
	if err != nil {
		return nil, err
	}
	for _, recording := range recordings {
		if err := Import(ctx, log.Store, recording); err != nil {
			return nil, errors.Join(fmt.Errorf("importing %s: %w", filepath.Base(recording), err), log.Close(context.WithoutCancel(ctx)))
		}
	}
	return log, nil
}

// Direct is a log by connections of their own that lead past a pooler, if there is one: who looks after its months holds a lock by
// the session. The caller closes it.
func Direct(ctx context.Context, log *eventstoretest.Log) (store *eventstore.Store, done func(), err error) {
	database, err := devdb.Shared(ctx)
	if err != nil {
		return nil, nil, err
	}
	pool, err := pgxpool.New(ctx, database.DirectURL)
	if err != nil {
		return nil, nil, err
	}
	store, err = eventstore.New(pool, eventstore.Config{Schema: log.Schema(), Codec: focusgroup.Codec()})
	return store, pool.Close, err
}

// Import adds a recording or a file of the corpus, compressed or not, to a log.
func Import(ctx context.Context, store *eventstore.Store, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	_, err = focusgroup.Import(ctx, store, corpus.ReadAny(file))
	return err
}

// Recordings are the demo's, the English one first, wherever the program is run from.
func Recordings() []string {
	_, file, _, _ := runtime.Caller(0)
	folder := filepath.Join(filepath.Dir(file), "..", "..", "demo", "recordings")
	return []string{filepath.Join(folder, "checkout-en.ndjson"), filepath.Join(folder, "opakowania-pl.ndjson")}
}
