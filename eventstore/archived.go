package eventstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Cold reads months whose events were archived and are no longer in the database: package partition has one. It may be called
// concurrently. Its events are as they were stored, their Data nil.
type Cold interface {
	// Log returns the first events of a month after a position, up to and including another, in position order, at most limit.
	Log(ctx context.Context, month ArchivedMonth, after, upTo Position, limit int) ([]Recorded, error)
	// Stream returns the events of a stream that lie in a month and within two versions, both included, in version order.
	Stream(ctx context.Context, month ArchivedMonth, id StreamID, low, high Version) ([]Recorded, error)
}

// ArchivedMonth is a month that has left the database.
type ArchivedMonth struct {
	Month       time.Time // its first instant, UTC
	First, Last Position  // of its events
	Archive     string    // what the month registry says of where it is
}

// ArchivedError names the month. It matches [ErrArchived].
type ArchivedError struct {
	Month    time.Time // its first instant, UTC
	StreamID StreamID  // empty where the global log was read
	Err      error     // why Config.Cold could not read it; nil where there is none
}

func (e *ArchivedError) Error() string {
	what := "the log"
	if e.StreamID != "" {
		what = string(e.StreamID)
	}
	text := fmt.Sprintf("reading %s: month %s is archived", what, e.Month.Format("2006-01"))
	if e.Err != nil {
		return text + ": " + e.Err.Error()
	}
	return text + ", and the store has no Config.Cold"
}

// Is matches [ErrArchived].
func (e *ArchivedError) Is(target error) bool { return target == ErrArchived }

func (e *ArchivedError) Unwrap() error { return e.Err }

// cold asks Config.Cold, and makes what goes wrong an ArchivedError.
func (s *Store) cold(month ArchivedMonth, id StreamID, read func(Cold) ([]Recorded, error)) ([]Recorded, error) {
	if s.config.Cold == nil {
		return nil, &ArchivedError{Month: month.Month, StreamID: id}
	}
	events, err := read(s.config.Cold)
	if err != nil {
		return nil, &ArchivedError{Month: month.Month, StreamID: id, Err: err}
	}
	return events, nil
}

// fillFromArchive adds what a page of a stream misses because its month is archived: months from the end that is read, and none
// that the page does not need.
func (s *Store) fillFromArchive(ctx context.Context, page []Recorded, head Head, left versions, archived []ArchivedMonth) ([]Recorded, error) {
	low, high, _ := left.bounds()
	if most := Version(s.config.PageSize - 1); left.step > 0 {
		high = min(high, low+most)
	} else {
		low = max(low, high-most)
		archived = slices.Clone(archived)
		slices.Reverse(archived)
	}
	var failed error
	for _, month := range archived {
		if month.Month.Before(monthOf(head.FirstRecordedAt)) || month.Month.After(head.LastRecordedAt) {
			continue
		}
		found, err := s.cold(month, head.StreamID, func(cold Cold) ([]Recorded, error) {
			return cold.Stream(ctx, month, head.StreamID, low, high)
		})
		if err != nil {
			failed = cmp.Or(failed, err)
			continue
		}
		page = append(page, found...)
		slices.SortFunc(page, func(a, b Recorded) int { return int(left.step) * cmp.Compare(a.Version, b.Version) })
		page = slices.CompactFunc(page, func(a, b Recorded) bool { return a.Version == b.Version }) // archived in between
		page = page[:min(len(page), s.config.PageSize)]
		if left.firstMissing(page, s.config.PageSize) == 0 {
			return page, nil
		}
	}
	return page, failed
}

// lastOccurredByReading is LastOccurred where one statement cannot look through all of the stream.
func (s *Store) lastOccurredByReading(ctx context.Context, id StreamID, by time.Time) (Version, error) {
	asStored := func(context.Context, *Recorded) error { return nil }
	for event, err := range s.stream(ctx, id, 0, asStored, backwardFrom(0)) {
		if err != nil {
			return 0, err
		}
		if !event.OccurredAt.After(by) {
			return event.Version, nil
		}
	}
	return 0, nil
}

// idAt is the id of the event at a place, by the month that holds it now: a month may have left or come back since the statement
// before. Of an archived month without Config.Cold it is that of the place itself, if the month holds its position: what was
// archived cannot have been lost by a crash. Zero: there is none.
func (s *Store) idAt(ctx context.Context, place place) (id uuid.UUID, err error) {
	if err := s.months.load(ctx, s.db, s.sql.months); err != nil {
		return uuid.Nil, err
	}
	online, archived, _ := s.months.get()
	month := monthOf(place.recordedAt)
	if slices.ContainsFunc(online, month.Equal) {
		err := s.db.QueryRow(ctx, `SELECT event_id FROM `+string(s.sql.schema)+`.`+leafOf(month)+` WHERE position = $1::bigint`, int64(place.position)).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return uuid.Nil, nil
		}
		return id, gone(err)
	}
	for _, m := range archived {
		if !m.Month.Equal(month) || place.position < m.First || place.position > m.Last {
			continue
		}
		if s.config.Cold == nil {
			return place.eventID, nil
		}
		events, err := s.cold(m, "", func(cold Cold) ([]Recorded, error) {
			return cold.Log(ctx, m, place.position-1, place.position, 1)
		})
		if err != nil || len(events) == 0 {
			return uuid.Nil, err
		}
		return events[0].ID, nil
	}
	return uuid.Nil, nil
}

// archivedRanges are where the archived months' events stand that are still to be read.
func (r *logReader) archivedRanges(archived []ArchivedMonth, settled Position) (ranges []leafRange) {
	for _, month := range archived {
		if len(r.filter.months([]time.Time{month.Month})) == 0 {
			continue
		}
		// A stored settled position can lie within the month: what follows it may belong between other months' events.
		found := leafRange{first: max(month.First, r.cursor+1), last: min(month.Last, settled), cold: &month}
		if found.first <= found.last {
			ranges = append(ranges, found)
		}
	}
	return ranges
}

// readCold reads a page of an archived month; what passes the filter.
func (r *logReader) readCold(ctx context.Context, month ArchivedMonth, upTo Position, limit int) (page []Recorded, err error) {
	s := r.store
	for after := r.cursor; len(page) < limit && after < upTo; {
		events, err := s.cold(month, "", func(cold Cold) ([]Recorded, error) { return cold.Log(ctx, month, after, upTo, limit) })
		if err != nil {
			return nil, err
		}
		if after = upTo; len(events) == limit {
			after = events[limit-1].Position
		}
		projects, err := r.projects(ctx, events)
		if err != nil {
			return nil, err
		}
		for _, event := range events {
			if r.filter.chooses(event, projects) {
				page = append(page, event)
			}
		}
	}
	return page[:min(len(page), limit)], nil
}

// projects are the streams among the events' that belong to the filter's project; nil if it names none.
func (r *logReader) projects(ctx context.Context, events []Recorded) (map[StreamID]bool, error) {
	if r.filter.Project == "" || len(events) == 0 {
		return nil, nil
	}
	ids := make([]string, len(events))
	for i := range events {
		ids[i] = string(events[i].StreamID)
	}
	rows, err := r.store.db.Query(ctx, r.store.sql.ofProject, r.filter.Project, slices.Compact(ids))
	if err != nil {
		return nil, err
	}
	of := map[StreamID]bool{}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, id := range found {
		of[StreamID(id)] = true
	}
	return of, err
}

// chooses is [Filter.where] for an event that comes from an archive; streams are those of the filter's project.
func (f Filter) chooses(e Recorded, streams map[StreamID]bool) bool {
	within := func(r TimeRange, t time.Time) bool { // bounds are cut as the database cuts them
		return (r.From.IsZero() || !t.Before(cutTime(r.From))) && (r.Until.IsZero() || t.Before(cutTime(r.Until)))
	}
	return (len(f.Categories) == 0 || slices.ContainsFunc(f.Categories, func(c string) bool { return strings.HasPrefix(string(e.StreamID), c+"-") })) &&
		(f.Project == "" || streams[e.StreamID]) &&
		(len(f.Types) == 0 || slices.Contains(f.Types, e.Type)) &&
		within(f.Recorded, e.RecordedAt) && within(f.Occurred, e.OccurredAt)
}
