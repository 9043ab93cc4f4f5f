package main

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

func importBenchmarks() []benchmark {
	return []benchmark{{"import.copy", perSecond, target{ratioAtLeast, 0.75}, importCopy}}
}

// importCopy compares Import, in its default batches, with one raw COPY of the same events.
func importCopy(ctx context.Context, w *world) (figures, error) {
	t, err := w.newTwin(ctx, "import.copy")
	if err != nil {
		return figures{}, err
	}
	pool, err := w.pool(ctx, 1)
	if err != nil {
		return figures{}, err
	}
	defer pool.Close()
	store, err := t.store(pool, focusgroup.Codec())
	if err != nil {
		return figures{}, err
	}
	side := func(write func(context.Context, *recording) error) sample {
		bodies := responses(0, 512)
		return func(ctx context.Context) (float64, error) {
			source := &recording{left: w.size.importEvents, length: w.size.streamEvents, responses: bodies}
			started := time.Now()
			err := write(ctx, source)
			return float64(w.size.importEvents) / time.Since(started).Seconds(), err
		}
	}
	ours := side(func(ctx context.Context, source *recording) error {
		_, err := store.Import(ctx, source.imported, eventstore.ImportConfig{})
		return err
	})
	position := int64(0)
	raw := side(func(ctx context.Context, source *recording) error { return t.raw.copy(ctx, pool, &position, source) })
	for _, warm := range []sample{ours, raw} {
		if _, err := warm(ctx); err != nil {
			return figures{}, err
		}
	}
	found, err := interleave(ctx, w.size.rounds, ours, raw)
	if err != nil {
		return figures{}, err
	}
	found.note = fmt.Sprintf("%d events a round, in new streams of %d", w.size.importEvents, w.size.streamEvents)
	return found, t.sameRows(ctx)
}

// recording is a source of events in new streams, some of which alternate.
type recording struct {
	left, length int
	responses    []focusgroup.Response
	at           int
	streams      [abreast]eventstore.StreamID
}

// next is the next event; false is the end.
func (r *recording) next() (stream eventstore.StreamID, version int, response focusgroup.Response, ok bool) {
	if r.left == 0 {
		return "", 0, response, false
	}
	r.left--
	if r.at%(abreast*r.length) == 0 {
		for i := range r.streams {
			r.streams[i] = focusgroup.NewDiscussionID()
		}
	}
	at := r.at % (abreast * r.length)
	r.at++
	return r.streams[at%abreast], at/abreast + 1, r.responses[r.at%len(r.responses)], true
}

// imported is the recording as the library takes it.
func (r *recording) imported(string) iter.Seq2[eventstore.Imported, error] {
	return func(yield func(eventstore.Imported, error) bool) {
		for {
			stream, _, response, ok := r.next()
			if !ok || !yield(eventstore.Imported{StreamID: stream, Event: eventstore.Event{Data: response}}, nil) {
				return
			}
		}
	}
}
