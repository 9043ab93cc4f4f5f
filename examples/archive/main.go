// Command archive takes the month of recorded discussions out of the database, replays one of them from its archive, and brings the
// month back. The log is a throwaway one; its events are recorded when they occurred.
//
//	go run ./archive [-to DIR] [recording.ndjson[.gz] ...]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/examples/internal/command"
	"github.com/sight-platform/hindsight/internal/corpus"
	"github.com/sight-platform/hindsight/partition"
	"github.com/sight-platform/hindsight/snapshot"
	"github.com/sight-platform/hindsight/snapshot/replay"
)

func main() {
	to := flag.String("to", "", "where the archive goes; a directory that is removed again if not given")
	flag.Parse()
	recordings := flag.Args()
	if len(recordings) == 0 {
		recordings = command.Recordings()
	}
	command.Main("archive", func(ctx context.Context) (err error) {
		dir := *to
		if dir == "" {
			if dir, err = os.MkdirTemp("", "hindsight-archive-"); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		}
		return run(ctx, recordings, dir, os.Stdout)
	})
}

// run is the whole program. The log that it makes is gone when it returns.
func run(ctx context.Context, recordings []string, dir string, out io.Writer) (err error) {
	log, err := eventstoretest.Open(ctx, eventstore.Config{Codec: focusgroup.Codec()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close(context.WithoutCancel(ctx))) }()
	first, err := fill(ctx, log.Store, recordings)
	if err != nil {
		return err
	}
	say := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(out, format+"\n", args...)
		}
	}

	blob, err := partition.NewDir(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	direct, done, err := command.Direct(ctx, log)
	if err != nil {
		return err
	}
	defer done()
	months, err := partition.New(direct, partition.Config{Archive: blob, Quarantine: time.Nanosecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if err := months.Migrate(ctx); err != nil {
		return err
	}
	before, err := bytesOf(ctx, log.Store)
	if err != nil {
		return err
	}
	state, err := months.Archive(ctx, first.RecordedAt) // a service has months.Run do it
	if err != nil {
		return err
	}
	say("%s is %s. Its archive:", first.RecordedAt.Format("January 2006"), state)
	keys, err := blob.List(ctx, "")
	if err != nil {
		return err
	}
	for _, key := range keys {
		say("  %s", key)
	}

	_, archived := focusgroup.Load(ctx, log.Store, first.StreamID)
	if !errors.Is(archived, eventstore.ErrArchived) {
		return fmt.Errorf("reading without the archive: %w", archived)
	}
	say("\nWithout it: %v", archived)
	replayed, err := replayOf(ctx, log.Store, blob, filepath.Join(dir, "cache"), first.StreamID)
	if err != nil {
		return err
	}
	say("With it: %q, %d turns by %d participants, %s", replayed.Title, replayed.Responses+replayed.Followups, len(replayed.Participants), replayed.Status)

	if err := months.Restore(ctx, first.RecordedAt); err != nil {
		return err
	}
	after, err := bytesOf(ctx, log.Store)
	if err != nil {
		return err
	}
	say("Restored: the same %d events as before: %t", len(after), slices.Equal(after, before))
	return err
}

// replayOf is an archived discussion at the end of its replay, by a store that reads on into the archive.
func replayOf(ctx context.Context, log *eventstore.Store, archive partition.Blob, cache string, id eventstore.StreamID) (d *focusgroup.Discussion, err error) {
	cold, err := partition.NewCold(archive, cache, 0)
	if err != nil {
		return nil, err
	}
	store, err := eventstore.New(log.Pool(), eventstore.Config{Schema: log.Schema(), Codec: focusgroup.Codec(), Cold: cold})
	if err != nil {
		return nil, err
	}
	player, err := replay.Open(ctx, store, replay.Config[*focusgroup.Discussion]{Fold: fold()}, id)
	if err != nil {
		return nil, err
	}
	err = player.Play(ctx, func(_ context.Context, step replay.Step[*focusgroup.Discussion]) error {
		d = step.State
		return nil
	})
	return d, err
}

func fold() snapshot.Fold[*focusgroup.Discussion] {
	return snapshot.Fold[*focusgroup.Discussion]{
		Name: "discussion", Version: 1,
		New: func(eventstore.StreamID) *focusgroup.Discussion { return &focusgroup.Discussion{} },
		Apply: func(d *focusgroup.Discussion, e eventstore.Recorded) (*focusgroup.Discussion, error) {
			return d, d.Apply(e)
		},
	}
}

// bytesOf is each event of the log, to the byte.
func bytesOf(ctx context.Context, store *eventstore.Store) (events []string, err error) {
	for e, err := range store.All(ctx, 0, eventstore.Filter{}) {
		if err != nil {
			return nil, err
		}
		events = append(events, fmt.Sprintln(e.Position, e.StreamID, e.Version, e.ID, e.Type, e.SchemaVersion, e.RecordedAt, e.OccurredAt, string(e.JSON), string(e.MetadataJSON)))
	}
	return events, nil
}

// fill imports the recordings as if each event had been recorded when it occurred, and returns the first event.
func fill(ctx context.Context, store *eventstore.Store, recordings []string) (first eventstore.Recorded, err error) {
	for _, path := range recordings {
		if err := importAt(ctx, store, path); err != nil {
			return first, fmt.Errorf("importing %s: %w", filepath.Base(path), err)
		}
	}
	for event, err := range store.All(ctx, 0, eventstore.Filter{}) {
		return event, err
	}
	return first, errors.New("the recordings hold no event")
}

func importAt(ctx context.Context, store *eventstore.Store, path string) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	latest := map[eventstore.StreamID]time.Time{} // people talk over each other; recorded times do not fall within a stream
	_, err = store.Import(ctx, func(string) iter.Seq2[eventstore.Imported, error] {
		return func(yield func(eventstore.Imported, error) bool) {
			for line, err := range corpus.ReadAny(file) {
				at := line.Event.OccurredAt
				if before := latest[line.StreamID]; at.Before(before) {
					at = before
				}
				latest[line.StreamID] = at
				if !yield(eventstore.Imported{StreamID: line.StreamID, Version: line.Version, Event: line.Event, RecordedAt: at}, err) {
					return
				}
			}
		}
	}, eventstore.ImportConfig{})
	return err
}
