package eventstore

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sight-platform/hindsight/internal/pg"
)

var (
	//go:embed sql/import_start.sql
	sqlImportStart string
	//go:embed sql/import_lock.sql
	sqlImportLock string
	//go:embed sql/import_heads.sql
	sqlImportHeads string
	//go:embed sql/import_clock.sql
	sqlImportClock string
	//go:embed sql/import_existing.sql
	sqlImportExisting string
	//go:embed sql/import_months.sql
	sqlImportMonths string
	//go:embed sql/import_positions.sql
	sqlImportPositions string
	//go:embed sql/import_advance.sql
	sqlImportAdvance string
	//go:embed sql/import_skips.sql
	sqlImportSkips string
	//go:embed sql/import_progress.sql
	sqlImportProgress string
	//go:embed sql/import_missing.sql
	sqlImportMissing string
)

// importQueries are the statements of imports with their schema filled in.
type importQueries struct {
	start, lock, heads, clock, existing, months string
	fence, positions, advance, skips, progress  string
	holdAppends, movePositions, makeMonth       string
	copy, missing                               string
}

func newImportQueries(schema pg.Schema) importQueries {
	return importQueries{
		start: schema.SQL(sqlImportStart), lock: schema.SQL(sqlImportLock), heads: schema.SQL(sqlImportHeads),
		clock: schema.SQL(sqlImportClock), existing: schema.SQL(sqlImportExisting), months: schema.SQL(sqlImportMonths),
		fence: schema.SQL(`SELECT {{schema}}.take_fence(false)`), positions: schema.SQL(sqlImportPositions),
		advance: schema.SQL(sqlImportAdvance), skips: schema.SQL(sqlImportSkips), progress: schema.SQL(sqlImportProgress),
		holdAppends:   schema.SQL(`LOCK TABLE {{schema}}.streams IN EXCLUSIVE MODE`),
		movePositions: schema.SQL(`SELECT {{schema}}.move_positions($1::bigint)`),
		makeMonth:     schema.SQL(`SELECT {{schema}}.make_month($1::text::date)`),
		missing:       schema.SQL(sqlImportMissing),
		copy:          schema.SQL(copyEvents),
	}
}

const (
	// importTries bounds the repetitions of a batch: months that were missing, deadlocks, locks not had in time.
	importTries = 10
	// Between tries, others get a turn: those who wait for what the batch locks, and the one it waits for. The pauses double.
	firstImportPause   = 100 * time.Millisecond
	longestImportPause = 2 * time.Second
	// importSettings bound what others wait for: a wait for a lock, while the batch holds locks, and a client that stops in
	// the middle of a batch, whose fence holds readers back. Its few rows of large tables are looked up by index, whatever
	// size the tables had when that was planned.
	importSettings = `
SELECT set_config('lock_timeout', '2s', true), set_config('statement_timeout', '1min', true),
       set_config('idle_in_transaction_session_timeout', '30s', true), set_config('enable_seqscan', 'off', true),
       set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)`
)

// missingMonths ends a try: the months are made and the batch is repeated.
type missingMonths []time.Time

func (m missingMonths) Error() string { return fmt.Sprintf("%d months have no partition", len(m)) }

func (m missingMonths) Is(target error) bool { return target == ErrMonthMissing }

// writeRepeatedly writes a batch, makes the months that it misses, and repeats it where it, or the making, lost a race.
func (r *importRun) writeRepeatedly(ctx context.Context, b *importBatch) (counts ImportCounts, err error) {
	pause := firstImportPause
	for try := 1; ; try++ {
		counts, err = r.write(ctx, b)
		var missing missingMonths
		made := false
		if errors.As(err, &missing) {
			if failed := r.makeMonths(ctx, missing); failed != nil {
				err = failed
			} else {
				made = true
			}
		}
		switch {
		case err == nil:
			r.store.news.poke()
			return counts, nil
		case ctx.Err() != nil || !made && !Retryable(err):
			return counts, err
		case try == importTries:
			return counts, lostRace(err)
		case made: // nobody is in the way
			continue
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return counts, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		pause = min(2*pause, longestImportPause)
	}
}

// lostRace names an error that others caused.
func lostRace(err error) error {
	switch pg.Code(err) {
	case pg.SerializationFailure, pg.DeadlockDetected, pg.LockNotAvailable:
		return fmt.Errorf("%w: %w", ErrSerialization, err)
	}
	return err
}

func (r *ImportReport) add(c ImportCounts) {
	for _, total := range []*ImportCounts{&r.ImportCounts, &r.Total} {
		total.Events += c.Events
		total.Existing += c.Existing
		total.Skipped += c.Skipped
	}
}

func (r *importRun) makeMonths(ctx context.Context, months []time.Time) error {
	for _, month := range months {
		err := pg.InTx(ctx, r.store.pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, r.store.sql.imports.makeMonth, month.Format(time.DateOnly))
			return err
		})
		if err != nil {
			return &MonthError{Month: month, Kind: ErrMonthMissing, Err: err}
		}
	}
	return nil
}

// write is one try: all of the batch in one transaction, in the order of the append protocol (doc.go).
func (r *importRun) write(ctx context.Context, b *importBatch) (counts ImportCounts, err error) {
	committing := false
	b.last = 0 // an earlier try's: another run may have written the batch meanwhile
	err = pg.InTx(ctx, r.store.pool, func(tx pgx.Tx) error {
		now, err := r.lock(ctx, tx, b)
		if err != nil {
			return err
		}
		if err := b.plan(now, r.store.config.MaxClockSkew); err != nil {
			return err
		}
		written := b.written()
		counts = ImportCounts{
			Events: int64(len(written)), Existing: int64(len(b.items) - len(written)), Skipped: int64(len(b.skips)),
		}
		if counts.Existing > 0 {
			if err := r.checkExisting(ctx, tx, b); err != nil {
				return err
			}
		}
		fence, err := r.raiseFence(ctx, tx, b, written)
		if err != nil {
			return err
		}
		if err := r.take(ctx, tx, b, written, fence, counts); err != nil {
			return err
		}
		if err := r.copy(ctx, tx, b, written); err != nil {
			return err
		}
		if r.config.KeepPositions && b.last > 0 {
			if _, err := tx.Exec(ctx, r.store.sql.imports.movePositions, int64(b.last)); err != nil {
				return err
			}
		}
		committing = true
		return nil
	})
	switch {
	case err != nil && committing && !pgconn.SafeToRetry(err) && (pg.Code(err) == "" || pg.Fatal(err)):
		err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	case pg.Code(err) == pg.UniqueViolation && strings.HasSuffix(pg.Constraint(err), "_event_id_key"):
		err = r.duplicate(ctx, b, err)
	case pg.Code(err) == pg.BelowFence: // something took positions past the locks that hold off appends
		err = fmt.Errorf("%w: %w", ErrSequence, err)
	}
	return counts, err
}

// lock takes the head rows and learns where they stand. It returns the clock's time, read after that.
func (r *importRun) lock(ctx context.Context, tx pgx.Tx, b *importBatch) (now time.Time, err error) {
	q := r.store.sql.imports
	streams := b.sorted()
	ids, projects := make([]string, len(streams)), make([]*string, len(streams))
	versions := make([]int64, len(streams))
	first, last := make([]*time.Time, len(streams)), make([]*time.Time, len(streams))
	for n, s := range streams {
		ids[n], projects[n], versions[n] = string(s.id), s.project, int64(len(s.items))
		first[n] = timeOrNil(b.items[s.items[0]].givenTime)
		last[n] = timeOrNil(b.items[s.items[len(s.items)-1]].givenTime)
	}
	var batch pgx.Batch
	batch.Queue(importSettings)
	if r.config.KeepPositions {
		batch.Queue(q.holdAppends)
	}
	batch.Queue(q.lock, ids, projects, versions, first, last).Query(func(rows pgx.Rows) error {
		made, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, id := range made {
			b.streams[StreamID(id)].created = true
		}
		return err
	})
	batch.Queue(q.heads, ids).Query(func(rows pgx.Rows) error {
		var id string
		var head importHead
		_, err := pgx.ForEachRow(rows, []any{&id, &head.version, &head.first, &head.last}, func() error {
			head.first, head.last = head.first.UTC(), head.last.UTC()
			stream := b.streams[StreamID(id)]
			stream.stored, stream.head = head, importHead{}
			if !stream.created {
				stream.head = head
			}
			return nil
		})
		return err
	})
	testClock := false
	batch.Queue(q.clock).QueryRow(func(row pgx.Row) error { return row.Scan(&now, &testClock) })
	for _, s := range streams {
		s.created = false // by an earlier try
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return now, err
	}
	if r.store.config.Clock != nil {
		if !testClock {
			return now, errors.New("this log takes no time but its own")
		}
		now = r.store.config.Clock()
	}
	return cutTime(now), nil
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// existingEvent is an event of the log that an item may repeat.
type existingEvent struct {
	Stream   string
	Version  int64
	ID       uuid.UUID
	Position int64
}

// checkExisting compares the items that the log should have already, by event id (and position, if it was to be kept).
func (r *importRun) checkExisting(ctx context.Context, tx pgx.Tx, b *importBatch) error {
	var ids []string
	var first, last []int64
	for _, s := range b.sorted() {
		if i := s.items[0]; b.items[i].existing {
			ids = append(ids, string(s.id))
			first = append(first, int64(b.items[i].version))
			last = append(last, min(int64(s.head.version), int64(b.items[i].version)+int64(len(s.items))-1))
		}
	}
	rows, err := tx.Query(ctx, r.store.sql.imports.existing, ids, first, last)
	if err != nil {
		return err
	}
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[existingEvent])
	if err != nil {
		return err
	}
	type place struct {
		stream  string
		version int64
	}
	found := make(map[place]existingEvent, len(events))
	for _, event := range events {
		found[place{event.Stream, event.Version}] = event
	}
	for i, item := range b.items {
		if !item.existing {
			continue
		}
		stands, ok := found[place{string(item.stream.id), int64(item.version)}]
		switch {
		case !ok:
			return b.fail(i, fmt.Errorf("%w: its month is not online", ErrVersionDiffers))
		case stands.ID != b.columns.eventIDs[i]:
			return b.fail(i, ErrVersionDiffers)
		case r.config.KeepPositions && stands.Position != int64(item.position):
			return b.fail(i, fmt.Errorf("%w: at position %d", ErrVersionDiffers, stands.Position))
		}
	}
	return nil
}

// raiseFence takes the fence, and behind it, in a snapshot of its own, looks the months up.
func (r *importRun) raiseFence(ctx context.Context, tx pgx.Tx, b *importBatch, written []int) (fence Position, err error) {
	if len(written) == 0 {
		return 0, nil
	}
	q := r.store.sql.imports
	var batch pgx.Batch
	var months []importMonth
	batch.Queue(q.fence).QueryRow(func(row pgx.Row) error { return row.Scan((*int64)(&fence)) })
	batch.Queue(q.months, b.months(written)).Query(func(rows pgx.Rows) (err error) {
		months, err = pgx.CollectRows(rows, pgx.RowToStructByPos[importMonth])
		return err
	})
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return 0, err
	}
	return fence, b.monthFault(months, written)
}

// take takes the positions, and moves the head rows and the bookmark.
func (r *importRun) take(ctx context.Context, tx pgx.Tx, b *importBatch, written []int, fence Position, counts ImportCounts) error {
	q := r.store.sql.imports
	var batch pgx.Batch
	var positions []int64
	if len(written) > 0 {
		if !r.config.KeepPositions {
			batch.Queue(q.positions, len(written)).QueryRow(func(row pgx.Row) error { return row.Scan(&positions) })
		}
		r.queueHeads(&batch, b)
	}
	if r.config.Name != "" {
		batch.Queue(q.progress, r.config.Name, r.batches, b.bookmark, counts.Events, counts.Existing, counts.Skipped).
			Exec(func(tag pgconn.CommandTag) error {
				if tag.RowsAffected() != 1 {
					return ErrImportOvertaken
				}
				return nil
			})
	}
	r.queueSkips(&batch, b)
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil || len(written) == 0 {
		return err
	}
	return r.place(b, written, positions, fence)
}

// place gives each item its position, and makes sure that all are above the fence: readers may have settled up to it.
func (r *importRun) place(b *importBatch, written []int, positions []int64, fence Position) error {
	b.last = b.items[written[len(written)-1]].position
	if r.config.KeepPositions {
		if first := b.items[written[0]].position; first <= fence {
			wrong := b.fail(written[0], ErrPositions)
			wrong.Position, wrong.Last = first, fence
			return wrong
		}
		return nil
	}
	if Position(positions[0]) <= fence {
		return fmt.Errorf("%w: position %d is not above the fence at %d", ErrSequence, positions[0], fence)
	}
	for n, i := range written {
		b.items[i].position = Position(positions[n])
	}
	b.last = Position(positions[len(positions)-1])
	return nil
}

// importMonth is a month that takes no events; its state is empty where there is no such month.
type importMonth struct {
	Month time.Time
	State string
}

func (b *importBatch) monthFault(months []importMonth, written []int) error {
	var missing missingMonths
	for _, m := range months {
		if m.State == "" {
			missing = append(missing, m.Month)
			continue
		}
		for _, i := range written {
			if item := b.items[i]; monthOf(item.recordedAt).Equal(m.Month) {
				wrong := b.fail(i, &MonthError{StreamID: item.stream.id, Month: m.Month, Kind: ErrMonthClosed})
				wrong.RecordedAt = item.recordedAt
				return wrong
			}
		}
	}
	if missing != nil {
		return missing
	}
	return nil
}

// queueHeads moves the head rows that lock has not left where they must be.
func (r *importRun) queueHeads(batch *pgx.Batch, b *importBatch) {
	var ids []string
	var versions []int64
	var first, last []time.Time
	for _, s := range b.sorted() {
		if s.next.version != s.stored.version || !s.next.first.Equal(s.stored.first) || !s.next.last.Equal(s.stored.last) {
			ids = append(ids, string(s.id))
			versions = append(versions, int64(s.next.version))
			first, last = append(first, s.next.first), append(last, s.next.last)
		}
	}
	if len(ids) > 0 {
		batch.Queue(r.store.sql.imports.advance, ids, versions, first, last)
	}
}

func (r *importRun) queueSkips(batch *pgx.Batch, b *importBatch) {
	if len(b.skips) == 0 {
		return
	}
	n := len(b.skips)
	ids, bookmarks, reasons := make([]string, n), make([]string, n), make([]string, n)
	for i, skip := range b.skips {
		ids[i], bookmarks[i], reasons[i] = skip.id.String(), skip.bookmark, skip.reason
	}
	batch.Queue(r.store.sql.imports.skips, r.config.Name, ids, bookmarks, reasons)
}

const copyEvents = `COPY {{schema}}.events (position, recorded_at, stream_id, version, event_id, event_type, schema_version,
       occurred_at, event_data, metadata) FROM STDIN BINARY`

func (r *importRun) copy(ctx context.Context, tx pgx.Tx, b *importBatch, written []int) error {
	if len(written) == 0 {
		return nil
	}
	_, err := tx.Conn().PgConn().CopyFrom(ctx, newCopyReader(b, written), r.store.sql.imports.copy)
	return err
}

// duplicate finds the event whose id the database has refused.
func (r *importRun) duplicate(ctx context.Context, b *importBatch, cause error) error {
	seen := map[uuid.UUID]bool{}
	ids := b.columns.eventIDs
	for i, id := range ids {
		if seen[id] {
			return b.fail(i, fmt.Errorf("%w: twice in one batch: %w", ErrDuplicateID, cause))
		}
		seen[id] = true
	}
	missing, err := r.store.NotImported(ctx, ids, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDuplicateID, errors.Join(cause, err))
	}
	for _, id := range missing {
		delete(seen, id)
	}
	for i, id := range ids {
		if seen[id] && !b.items[i].existing {
			return b.fail(i, fmt.Errorf("%w: %w", ErrDuplicateID, cause))
		}
	}
	return fmt.Errorf("%w: %w", ErrDuplicateID, cause)
}

func uuidTexts(ids []uuid.UUID) []string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	return texts
}
