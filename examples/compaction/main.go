// Command compaction merges the events of each discussion that has ended into a summary event in a stream of its own. The
// discussion's events stay as they are: a summary is derived from the log, and the log is never rewritten. It compacts a recording
// in a throwaway log, shows its longest discussion from the summary alone, and replays it from its events.
//
//	go run ./compaction [-recording file.ndjson[.gz]]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/examples/internal/command"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/snapshot/replay"
)

func main() {
	recording := flag.String("recording", command.Recordings()[0], "a recording, or a file of the corpus, gzipped or not")
	flag.Parse()
	command.Main("compaction", func(ctx context.Context) error { return run(ctx, *recording, os.Stdout) })
}

// run is the whole program. The log that it makes is gone when it returns.
func run(ctx context.Context, recording string, out io.Writer) (err error) {
	log, err := command.Open(ctx, []string{recording})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close(context.WithoutCancel(ctx))) }()
	codec, err := newCodec()
	if err != nil {
		return err
	}
	store, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema(), Codec: codec})
	if err != nil {
		return err
	}
	if err := compact(ctx, store); err != nil {
		return err
	}
	longest, err := showAll(ctx, store, out)
	if err != nil {
		return err
	}
	return showOne(ctx, store, longest, out)
}

// compact does what the log holds; a service has runner.Run follow it, in as many processes as it likes.
func compact(ctx context.Context, store *eventstore.Store) error {
	runner, err := projection.New(store, projection.Config{Projections: []projection.Projection{compaction{store}}})
	if err != nil {
		return err
	}
	if err := runner.CatchUp(ctx); err != nil {
		return err
	}
	parked, err := runner.Parked(ctx, compactionName, 1)
	if err == nil && len(parked) > 0 {
		err = fmt.Errorf("compacting %s: %s", parked[0].StreamID, parked[0].Error)
	}
	return err
}

// showAll counts what was compacted, and returns the longest discussion.
func showAll(ctx context.Context, store *eventstore.Store, out io.Writer) (longest eventstore.StreamID, err error) {
	var summaries, events, most eventstore.Version
	for event, err := range store.All(ctx, 0, eventstore.Filter{Types: []string{TypeDiscussionSummarised}}) {
		if err != nil {
			return "", err
		}
		source := event.Data.(DiscussionSummarised).Source
		summaries, events = summaries+1, events+source.LastVersion
		if source.LastVersion > most {
			longest, most = source.StreamID, source.LastVersion
		}
	}
	if longest == "" {
		return "", errors.New("the recording holds no discussion that has ended")
	}
	_, err = fmt.Fprintf(out, "Summaries: %d, made of %d events\n\n", summaries, events)
	return longest, err
}

// showOne shows a discussion from its events, from its summary, and replays it.
func showOne(ctx context.Context, store *eventstore.Store, id eventstore.StreamID, out io.Writer) error {
	var all, one reading
	folded, _, err := summarise(all.of(store.Stream(ctx, id, 0)))
	if err != nil {
		return err
	}
	_, summary, err := newest(one.of(store.Backward(ctx, summaryStream(id), 0)))
	if err != nil {
		return err
	}
	player, err := replay.Open(ctx, store, replay.Config[struct{}]{}, id)
	if err != nil {
		return err
	}
	replayed, _, err := summarise(func(yield func(eventstore.Recorded, error) bool) {
		for step, err := range player.Steps(ctx) {
			if !yield(step.Event, err) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "Events read to show the longest discussion: %d, %d bytes\nTo show it from its summary: %d, %d bytes; the same: %t\n\n%s\n"+
		"Replayed event by event: %d of %d, with the SHA-256 of the summary: %t\n",
		all.events, all.bytes, one.events, one.bytes, summary.String() == folded.String(), summary,
		replayed.Source.LastVersion, player.Len(), replayed.Source.SHA256 == summary.Source.SHA256)
	return err
}

// reading is how much was read.
type reading struct{ events, bytes int }

func (r *reading) of(events iter.Seq2[eventstore.Recorded, error]) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for event, err := range events {
			if err == nil {
				r.events++
				r.bytes += len(event.JSON) + len(event.MetadataJSON)
			}
			if !yield(event, err) {
				return
			}
		}
	}
}
