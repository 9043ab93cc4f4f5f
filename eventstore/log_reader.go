package eventstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
)

// defaultFilteredScan bounds how many positions one statement looks through for events that pass a filter.
const defaultFilteredScan = 200_000

// logReader reads the global log in position order. It moves by surveys: a survey finds the settled position and, up to
// it, the last committed event; pages then read up to that event. As the commit of that event has flushed the sequence,
// no later event can appear below it, not even after a crash of the server: pages need no fence of their own.
type logReader struct {
	store  *Store
	filter Filter
	where  string // the filter's SQL, parameters from $4
	args   []any

	// cursor is what has been read: 0, or the position of a committed event (a settled position that no event holds
	// would be unsafe to go on from after a crash).
	cursor   Position
	segments []segment // what the last survey found after cursor
	started  time.Time // of the server, at the last survey

	buffer []Recorded // of the page before, whose events have been handed on by value
}

func (s *Store) newLogReader(after Position, filter Filter) (*logReader, error) {
	if after < 0 {
		return nil, &InvalidError{Index: -1, Field: "position", Reason: fmt.Sprintf("is %d, they start at 1", after)}
	}
	if err := filter.validate(); err != nil {
		return nil, err
	}
	where, args := filter.where(4)
	return &logReader{store: s, filter: filter, where: s.sql.schema.SQL(where), args: args, cursor: after}, nil
}

// settlement is the answer of settled_position.
type settlement struct {
	settled Position
	last    Position // the sequence's; -1 where the stored row had to serve
	months  int64    // sum of the registry's revisions
	started time.Time
}

func scanSettled(row pgx.Row) (settlement, error) {
	var found settlement
	err := row.Scan((*int64)(&found.settled), (*int64)(&found.last), &found.months, &found.started)
	return found, err
}

// survey settles, and plans what there is to read from cursor. Both statements go to one server in one round trip; the
// second sees the settled position in a setting of their common transaction.
func (r *logReader) survey(ctx context.Context) (settlement, error) {
	s := r.store
	var changing error
	for range 5 {
		online, archived, revision := s.months.get()
		months := r.filter.months(online)
		var batch pgx.Batch
		batch.Queue(s.sql.settled, int64(r.cursor))
		if len(months) > 0 {
			batch.Queue(r.probeSQL(months), int64(r.cursor))
		}
		var ranges []leafRange
		found, err := settleWith(ctx, s, func(db pg.DB) (found settlement, err error) {
			found, ranges, err = r.sendSurvey(ctx, db, &batch, months)
			return found, err
		})
		if err != nil && (pg.Code(err) != pg.UndefinedTable || s.inTx()) {
			return found, fmt.Errorf("settling the log: %w", gone(err))
		}
		if err == nil && found.last >= 0 && r.cursor > found.last {
			return found, &RewoundError{Position: r.cursor, Last: found.last}
		}
		if err == nil && found.months == revision {
			r.segments = planSegments(append(ranges, r.archivedRanges(archived, found.settled)...))
			return found, nil
		}
		// The list was older than the settled position: months may be missing from it, or have left.
		changing = err
		if err := s.months.load(ctx, s.db, s.sql.months); err != nil {
			return found, err
		}
	}
	if changing != nil {
		return settlement{}, fmt.Errorf("settling the log: %w", changing)
	}
	return settlement{}, fmt.Errorf("settling the log: its months kept changing")
}

// settleWith runs a settling statement. Where it had to make do with the stored row because the session's default isolation
// is stricter, it runs again in READ COMMITTED; a standby and a caller's transaction keep the stored row.
func settleWith(ctx context.Context, s *Store, settle func(pg.DB) (settlement, error)) (settlement, error) {
	found, err := settle(s.db)
	if err != nil || found.last >= 0 || s.pool == nil {
		return found, err
	}
	err = pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		found, err = settle(tx)
		return err
	})
	return found, err
}

func (r *logReader) sendSurvey(ctx context.Context, db pg.DB, batch *pgx.Batch, months []time.Time) (found settlement, ranges []leafRange, err error) {
	results := db.SendBatch(ctx, batch)
	defer func() {
		if closeErr := results.Close(); err == nil {
			err = closeErr
		}
	}()
	if found, err = scanSettled(results.QueryRow()); err != nil || batch.Len() == 1 {
		return found, nil, err
	}
	rows, err := results.Query()
	if err != nil {
		return found, nil, err
	}
	probes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[probe])
	for _, p := range probes {
		if p.First == nil {
			continue
		}
		ranges = append(ranges, leafRange{month: months[p.Leaf], first: Position(*p.First), last: Position(*p.Last)})
	}
	return found, ranges, err
}

// probe is the answer of one leaf: nothing, or where its events begin and end.
type probe struct {
	Leaf        int
	First, Last *int64
}

// probeSQL asks each leaf for its first and last position after the cursor, up to the settled one: two index lookups.
func (r *logReader) probeSQL(months []time.Time) string {
	const settled = `current_setting('hindsight.settled')::bigint` // as the statement before has found
	const probe = `, min(position), max(position) FROM {{leaf}} WHERE position > $1::bigint AND position <= ` + settled
	s := r.store
	leaves := make([]string, len(months))
	for i, month := range months {
		leaves[i] = s.overLeaves([]time.Time{month}, `SELECT `+strconv.Itoa(i)+probe, "")
	}
	return s.sql.schema.SQL(strings.Join(leaves, "\nUNION ALL\n"))
}

// page reads the next events that the last survey planned; an empty page says that all of them were read.
func (r *logReader) page(ctx context.Context, limit int) ([]Recorded, error) {
	for len(r.segments) > 0 {
		if page, err := r.window(ctx, limit); err != nil || len(page) > 0 {
			return page, err
		}
	}
	return nil, nil
}

// window reads what one statement looks through: with a filter that chooses little there may be nothing in it. There must be a
// segment left.
func (r *logReader) window(ctx context.Context, limit int) ([]Recorded, error) {
	segment := r.segments[0]
	upTo := segment.upTo
	if !r.filter.empty() {
		upTo = min(upTo, r.cursor+r.store.filteredScan)
	}
	page, err := r.read(ctx, segment, upTo, limit)
	r.buffer = page
	if pg.Code(err) == pg.UndefinedTable && !errors.Is(err, ErrArchived) && !r.store.inTx() { // the month left since it was planned
		return nil, r.planAgain(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the log after position %d: %w", r.cursor, gone(err))
	}
	if len(page) == limit {
		r.cursor = page[limit-1].Position
	} else {
		r.cursor = upTo
	}
	if r.cursor == segment.upTo {
		r.segments = r.segments[1:]
	}
	return page, nil
}

// planAgain plans what is left of a plan whose months have changed.
func (r *logReader) planAgain(ctx context.Context) error {
	end := r.segments[len(r.segments)-1].upTo
	if _, err := r.survey(ctx); err != nil {
		return err
	}
	for i := range r.segments {
		if r.segments[i].upTo >= end { // what came since is not of this reading
			r.segments[i].upTo = end
			r.segments = r.segments[:i+1]
			break
		}
	}
	return nil
}

func (r *logReader) read(ctx context.Context, segment segment, upTo Position, limit int) (page []Recorded, err error) {
	if len(segment.months) > 0 {
		if page, err = r.readOnline(ctx, segment.months, upTo, limit); err != nil {
			return page, err
		}
	}
	for _, month := range segment.archived {
		events, err := r.readCold(ctx, month, upTo, limit)
		if err != nil {
			return nil, err
		}
		page = append(page, events...)
	}
	if len(segment.archived) > 0 {
		slices.SortFunc(page, func(a, b Recorded) int { return cmp.Compare(a.Position, b.Position) })
		page = page[:min(len(page), limit)]
	}
	return page, nil
}

func (r *logReader) readOnline(ctx context.Context, months []time.Time, upTo Position, limit int) ([]Recorded, error) {
	perLeaf := `SELECT ` + eventColumns + ` FROM {{leaf}} WHERE position > $1::bigint AND position <= $2::bigint` + r.where
	const tail = ` ORDER BY position LIMIT $3::bigint`
	s := r.store
	return s.collect(ctx, r.buffer, s.overLeaves(months, perLeaf, tail), append([]any{int64(r.cursor), int64(upTo), limit}, r.args...)...)
}

// leafRange is where a month's events stand that are still to be read.
type leafRange struct {
	month       time.Time
	first, last Position
	cold        *ArchivedMonth // its events are not in the database
}

// segment is a run of positions, up to upTo, that lie in the leaves of these months.
type segment struct {
	months   []time.Time
	archived []ArchivedMonth
	upTo     Position
}

// planSegments cuts the log where its set of leaves changes: neighbouring months overlap around midnight, and clocks
// jump, so a run may lie in several. The last upTo is the position of an event.
func planSegments(ranges []leafRange) (segments []segment) {
	for at, done := Position(0), false; !done; {
		done = true
		next := segment{upTo: 1<<63 - 1}
		start := Position(1<<63 - 1) // where the next event not yet covered stands
		for _, r := range ranges {
			if r.last > at {
				start = min(start, max(r.first, at+1))
				done = false
			}
		}
		for _, r := range ranges {
			switch {
			case r.last < start:
			case r.first <= start:
				if r.cold != nil {
					next.archived = append(next.archived, *r.cold)
				} else {
					next.months = append(next.months, r.month)
				}
				next.upTo = min(next.upTo, r.last)
			default:
				next.upTo = min(next.upTo, r.first-1)
			}
		}
		if !done {
			segments = append(segments, next)
			at = next.upTo
		}
	}
	return segments
}
