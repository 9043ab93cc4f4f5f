package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection"
)

const compactionName = "compaction"

// compaction is a projection whose rows are events: the summaries, and how far it has come, commit together.
type compaction struct{ store *eventstore.Store }

func (compaction) Spec() projection.Spec {
	return projection.Spec{Name: compactionName, Categories: []string{"discussion"}}
}

// news is what a batch holds of a discussion.
type news struct {
	upTo  eventstore.Version
	ended bool
}

// Prepare folds the discussions that a summary is due of. It comes before the transaction, which holds readers of the log back
// once it has appended.
func (c compaction) Prepare(ctx context.Context, batch *projection.Batch) error {
	discussions := map[eventstore.StreamID]news{}
	for _, event := range batch.Events {
		ended := discussions[event.StreamID].ended || event.Type == focusgroup.TypeDiscussionEnded
		discussions[event.StreamID] = news{event.Version, ended}
	}
	var due []eventstore.StreamAppend
	for _, id := range slices.Sorted(maps.Keys(discussions)) { // in one order, so that two at once do not deadlock
		version, last, err := newest(c.store.Backward(ctx, summaryStream(id), 0))
		switch n := discussions[id]; {
		case err != nil:
			return err
		case version == 0 && !n.ended: // it runs: not worth a look at its events
			continue
		case last.Source.LastVersion >= n.upTo:
			continue
		}
		summary, cause, err := summarise(c.store.Stream(ctx, id, 0))
		if errors.Is(err, errRunning) { // it was begun again
			continue
		}
		if err != nil {
			return fmt.Errorf("summarising %s: %w", id, err)
		}
		due = append(due, eventstore.StreamAppend{
			StreamID: summaryStream(id), Expected: eventstore.AtVersion(version), Events: []any{summaryEvent(summary, cause)},
		})
	}
	batch.Prepared = due
	return nil
}

// Apply appends the summaries. The expected version keeps out whoever summarises the same events without sharing the
// projection's leases, such as its next version while that is built; the event's id makes the same summary a repetition.
func (c compaction) Apply(ctx context.Context, tx pgx.Tx, batch *projection.Batch) error {
	for _, due := range batch.Prepared.([]eventstore.StreamAppend) {
		_, err := c.store.WithTx(tx).Append(ctx, due.StreamID, due.Expected, due.Events...)
		if errors.Is(err, eventstore.ErrConflict) {
			return projection.Transient(err) // prepared again, it finds the other's summary
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// summaryEvent is the same for the same events, its id too. cause is the last of them.
func summaryEvent(summary DiscussionSummarised, cause eventstore.Recorded) eventstore.Event {
	return eventstore.Event{
		ID: uuid.NewSHA1(cause.ID, []byte(summaryStream(cause.StreamID))), Data: summary,
		Metadata: eventstore.Metadata{
			CorrelationID: cmp.Or(cause.Metadata.CorrelationID, cause.ID.String()), CausationID: cause.ID.String(), Actor: compactionName,
		},
	}
}

// summaryStream is where the summaries of a discussion stand: summary-x for discussion-x.
func summaryStream(discussion eventstore.StreamID) eventstore.StreamID {
	_, id, _ := strings.Cut(string(discussion), "-")
	return eventstore.StreamID("summary-" + id)
}

// newest is the first of a stream of summaries that is read backward; version 0 if there is none.
func newest(summaries iter.Seq2[eventstore.Recorded, error]) (version eventstore.Version, summary DiscussionSummarised, err error) {
	for event, err := range summaries {
		if err != nil {
			return 0, summary, err
		}
		return event.Version, event.Data.(DiscussionSummarised), nil
	}
	return 0, summary, nil
}
