package eventstore

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// importBatch is what one transaction of an import writes.
type importBatch struct {
	columns  appendRequest // as Append prepares them, one row an item
	items    []importItem
	streams  map[StreamID]*importStream
	skips    []importSkip
	count    int // items and skips
	bytes    int
	bookmark string
	last     Position // of the last event written
}

func newImportBatch() *importBatch { return &importBatch{streams: map[StreamID]*importStream{}} }

// importItem is an event of a batch: as the source gave it, and what plan and the database made of it.
type importItem struct {
	index        int64
	stream       *importStream
	givenVersion Version
	givenTime    time.Time
	bookmark     string

	version    Version
	recordedAt time.Time
	position   Position // as given, or as assigned
	existing   bool
}

// importStream is the part of a batch that goes to one stream.
type importStream struct {
	id      StreamID
	project *string
	items   []int

	head    importHead // before the batch; zero if the batch begins the stream
	stored  importHead // as the row stands under the lock: what lock inserted, or head
	next    importHead // after the batch
	created bool
}

// importHead is a head row.
type importHead struct {
	version     Version
	first, last time.Time
}

type importSkip struct {
	id               uuid.UUID
	bookmark, reason string
}

// reset empties the batch and keeps its memory.
func (b *importBatch) reset() {
	c := &b.columns.events
	clear(c.data) // the bodies need not be kept
	columns := appendRequest{eventIDs: b.columns.eventIDs[:0], since: latest, events: encodedEvents{
		ids: c.ids[:0], types: c.types[:0], schemaVersions: c.schemaVersions[:0],
		occurred: c.occurred[:0], data: c.data[:0], metadata: c.metadata[:0],
	}}
	clear(b.streams)
	*b = importBatch{columns: columns, items: b.items[:0], skips: b.skips[:0], streams: b.streams}
}

// add notes the event whose row was just added to the columns.
func (b *importBatch) add(index int64, event Imported, size int) {
	stream := b.streams[event.StreamID]
	if stream == nil {
		stream = &importStream{id: event.StreamID}
		b.streams[event.StreamID] = stream
	}
	if stream.project == nil {
		stream.project = b.columns.project
	}
	stream.items = append(stream.items, len(b.items))
	b.items = append(b.items, importItem{
		index: index, stream: stream, givenVersion: event.Version, givenTime: event.RecordedAt, position: event.Position, bookmark: event.Bookmark,
	})
	b.count++
	b.bytes += size
	b.bookmark = event.Bookmark
}

const maxSkipReasonBytes = 1000

func (b *importBatch) skip(event Imported) {
	skip := importSkip{id: event.Event.ID, bookmark: event.Bookmark, reason: event.Skip}
	if skip.id == uuid.Nil {
		skip.id = newID()
	}
	skip.reason = strings.ReplaceAll(skip.reason[:min(len(skip.reason), maxSkipReasonBytes)], "\x00", "")
	skip.reason = strings.ToValidUTF8(skip.reason, "")
	b.skips = append(b.skips, skip)
	b.count++
	b.bytes += len(skip.reason)
	b.bookmark = event.Bookmark
}

// sorted returns the streams in the order in which every writer locks them.
func (b *importBatch) sorted() []*importStream {
	return slices.SortedFunc(maps.Values(b.streams), func(x, y *importStream) int { return cmp.Compare(x.id, y.id) })
}

// fail is an error about an item.
func (b *importBatch) fail(i int, err error) *ImportError {
	item := &b.items[i]
	version := item.version
	if version == 0 {
		version = item.givenVersion
	}
	return &ImportError{
		Index: item.index, StreamID: item.stream.id, Version: version, EventID: b.columns.eventIDs[i], Bookmark: item.bookmark,
		RecordedAt: item.givenTime, Err: err,
	}
}

// plan gives each item its version and recorded time, by the head rows under lock.
func (b *importBatch) plan(now time.Time, skew time.Duration) error {
	for _, stream := range b.sorted() {
		if err := b.planVersions(stream); err != nil {
			return err
		}
		if err := b.planTimes(stream, now, skew); err != nil {
			return err
		}
	}
	return nil
}

// planVersions numbers the stream's items densely, from the first version that the source gives, or from the head.
func (b *importBatch) planVersions(stream *importStream) error {
	gap := func(i int, version, want Version) error {
		wrong := b.fail(i, ErrVersionGap)
		wrong.Version, wrong.Want = version, want
		return wrong
	}
	head, before := stream.head.version, stream.head.version
	for n, i := range stream.items {
		if given := b.items[i].givenVersion; given > 0 {
			if before = given - Version(n) - 1; before < 0 {
				return gap(i, given, head+Version(n)+1)
			}
			break
		}
	}
	if before > head {
		return gap(stream.items[0], before+1, head+1)
	}
	for n, i := range stream.items {
		item := &b.items[i]
		item.version = before + Version(n) + 1
		item.existing = item.version <= head
		if item.givenVersion > 0 && item.givenVersion != item.version {
			return gap(i, item.givenVersion, item.version)
		}
	}
	stream.next.version = max(head, before+Version(len(stream.items)))
	return nil
}

// planTimes keeps the times given and fills in the others: they never fall, and never run ahead of the clock.
func (b *importBatch) planTimes(stream *importStream, now time.Time, skew time.Duration) error {
	first, last := stream.head.first, stream.head.last
	for _, i := range stream.items {
		item := &b.items[i]
		if item.existing {
			continue
		}
		item.recordedAt = item.givenTime
		switch {
		case item.givenTime.IsZero() && last.After(now):
			item.recordedAt = last
		case item.givenTime.IsZero():
			item.recordedAt = now
		case item.givenTime.Before(last):
			wrong := b.fail(i, ErrRecordedAt)
			wrong.Bound = last
			return wrong
		}
		if limit := now.Add(skew); item.recordedAt.After(limit) {
			wrong := b.fail(i, ErrClock)
			wrong.RecordedAt, wrong.Bound = item.recordedAt, limit
			return wrong
		}
		if last = item.recordedAt; first.IsZero() {
			first = last
		}
	}
	stream.next.first, stream.next.last = first, last
	return nil
}

// written returns the items to write, in the source's order.
func (b *importBatch) written() []int {
	var out []int
	for i := range b.items {
		if !b.items[i].existing {
			out = append(out, i)
		}
	}
	return out
}

// months are those that the items to write fall into.
func (b *importBatch) months(written []int) []string {
	months := map[time.Time]bool{}
	var first, next time.Time // of the month of the item before
	for _, i := range written {
		if at := b.items[i].recordedAt; at.Before(first) || !at.Before(next) {
			first = monthOf(at)
			next = first.AddDate(0, 1, 0)
			months[first] = true
		}
	}
	var out []string
	for month := range months {
		out = append(out, month.Format(time.DateOnly))
	}
	return out
}
