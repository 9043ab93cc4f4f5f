package eventstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// StreamAppend is one stream's part of [Store.AppendMany].
type StreamAppend struct {
	StreamID StreamID
	Expected Expected
	Events   []any // as of [Store.Append]
}

// AppendMany writes events to several different streams: all of them in one commit, recorded at one time, or none. The
// receipts stand in the order of the appends. Errors are those of [Store.Append]; a [ConflictError], [ClockError] or
// [MonthError] names the first stream, in the order of their ids, that could not be written to. The limits of an append hold for
// all of them together. Repeated with the same ids it returns the first receipts.
//
// Concurrent calls take the streams in the order of their ids, so they wait for each other and do not deadlock.
func (s *Store) AppendMany(ctx context.Context, appends ...StreamAppend) ([]Receipt, error) {
	requests, err := s.prepareMany(ctx, appends)
	if err != nil {
		return nil, err
	}
	sorted := slices.SortedFunc(slices.Values(requests), func(a, b *appendRequest) int { return cmp.Compare(a.stream, b.stream) })
	write := func(ctx context.Context, s *Store) ([]Receipt, error) { return s.appendMany(ctx, sorted) }
	var receipts []Receipt
	if s.config.InTx.After != nil {
		receipts, err = s.appendWithHooks(ctx, sorted, write)
	} else {
		receipts, err = write(ctx, s)
	}
	if err != nil {
		return nil, err
	}
	inOrder := make([]Receipt, len(requests))
	for i, r := range sorted {
		inOrder[slices.Index(requests, r)] = receipts[i]
	}
	return inOrder, nil
}

// appendMany runs append_many for requests that are sorted by stream.
func (s *Store) appendMany(ctx context.Context, sorted []*appendRequest) ([]Receipt, error) {
	all := joinRequests(sorted)
	return s.appendUntilAnswered(ctx, sorted, false, func(ctx context.Context) ([]appendAnswer, error) {
		return s.queryAnswers(ctx, s.sql.appendMany, all.streams, all.expected, all.projects, all.counts,
			all.events.ids, all.events.types, all.events.schemaVersions, all.events.occurred, all.events.data, all.events.metadata,
			all.since, s.config.MaxClockSkew.Microseconds(), s.clockTime())
	})
}

func (s *Store) prepareMany(ctx context.Context, appends []StreamAppend) ([]*appendRequest, error) {
	if len(appends) == 0 {
		return nil, &InvalidError{Index: -1, Field: "appends", Reason: "are none"}
	}
	events, bytes := 0, 0
	requests := make([]*appendRequest, len(appends))
	seen := make(map[StreamID]bool, len(appends))
	for i, a := range appends {
		r, err := s.prepareAppend(ctx, a.StreamID, a.Expected, a.Events)
		if err != nil {
			return nil, fmt.Errorf("append to %s: %w", a.StreamID, err)
		}
		if seen[a.StreamID] {
			return nil, &InvalidError{Index: -1, Field: "appends", Reason: fmt.Sprintf("name %s twice", a.StreamID)}
		}
		seen[a.StreamID] = true
		if events += len(r.eventIDs); events > MaxEventsPerAppend {
			return nil, &InvalidError{Index: -1, Field: "events", Reason: fmt.Sprintf("are over %d in all", MaxEventsPerAppend)}
		}
		if bytes += r.bytes; bytes > MaxAppendBytes {
			return nil, &InvalidError{Index: -1, Field: "data", Reason: fmt.Sprintf("is over %d bytes in all", MaxAppendBytes)}
		}
		requests[i] = r
	}
	return requests, nil
}

// joinedRequests are several requests in the columns that the SQL functions take.
type joinedRequests struct {
	streams  []string
	expected []int64
	projects []*string
	counts   []int32
	before   []int32 // the events that stand before each request's
	of       []int32 // the request of each event, from 1
	since    time.Time
	events   encodedEvents
}

func joinRequests(requests []*appendRequest) joinedRequests {
	events := 0
	for _, r := range requests {
		events += len(r.eventIDs)
	}
	all := joinedRequests{since: latest, events: newEncodedEvents(events)}
	for i, r := range requests {
		all.streams = append(all.streams, string(r.stream))
		all.expected = append(all.expected, int64(r.expected))
		all.projects = append(all.projects, r.project)
		all.counts = append(all.counts, int32(len(r.eventIDs)))
		all.before = append(all.before, int32(len(all.of)))
		for range r.eventIDs {
			all.of = append(all.of, int32(i+1))
		}
		if r.since.Before(all.since) {
			all.since = r.since
		}
		all.events.add(r.events)
	}
	return all
}
