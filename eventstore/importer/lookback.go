package importer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
)

const (
	keysPage = 10_000 // rows that are looked up in the log at a time
	latePage = 100    // late rows that are read at a time
)

// lookBack looks for every row up to the bookmark in the log.
func (r *tableRun) lookBack(ctx context.Context) error {
	last, err := parseKey(r.report.Bookmark)
	if err != nil || last == nil {
		return err
	}
	var after *key
	for more := true; more; {
		keys, err := r.table.keys(ctx, after, *last)
		if err != nil {
			return fmt.Errorf("looking back: %w", err)
		}
		late, err := r.notInTheLog(ctx, keys)
		if err != nil {
			return fmt.Errorf("looking back: %w", err)
		}
		r.report.Late += int64(len(late))
		r.report.LateRows = append(r.report.LateRows, late[:min(len(late), maxLateRows-len(r.report.LateRows))]...)
		if len(late) > 0 && r.config.TakeLate {
			if err := r.takeLate(ctx, late); err != nil {
				return fmt.Errorf("late rows: %w", err)
			}
		}
		if more = len(keys) == keysPage; more {
			after = &keys[len(keys)-1]
		}
	}
	if r.report.Late > 0 && !r.config.TakeLate {
		return fmt.Errorf("%w: %d, the first has the id %s", ErrLateRows, r.report.Late, r.report.LateRows[0])
	}
	return nil
}

// notInTheLog returns the ids of the rows whose events are not there.
func (r *tableRun) notInTheLog(ctx context.Context, keys []key) ([]string, error) {
	rows := map[uuid.UUID]string{}
	ids, recorded := make([]uuid.UUID, len(keys)), make([]time.Time, len(keys))
	for i, k := range keys {
		ids[i], recorded[i] = r.eventID(k.id), k.at
		rows[ids[i]] = k.id
	}
	missing, err := r.store.NotImported(ctx, ids, recorded)
	late := make([]string, len(missing))
	for i, id := range missing {
		late[i] = rows[id]
	}
	return late, err
}

// takeLate imports rows by their ids, as recorded now. The bookmark stays where it is.
func (r *tableRun) takeLate(ctx context.Context, ids []string) error {
	var yielded []string // by the event's index
	source := func(bookmark string) iter.Seq2[eventstore.Imported, error] {
		return func(yield func(eventstore.Imported, error) bool) {
			for event, err := range r.events(r.table.rowsByID(ctx, ids)) {
				yielded = append(yielded, rowOf(event.Bookmark))
				event.Bookmark, event.RecordedAt = bookmark, time.Time{}
				if !yield(event, err) {
					return
				}
			}
		}
	}
	config := r.importConfig()
	before := r.report
	config.Progress = func(report eventstore.ImportReport) { r.progress(before.with(report)) }
	if r.config.Skip != nil {
		config.Skip = func(_ eventstore.Imported, err error) string {
			return r.config.Skip(&RowError{Row: yielded[len(yielded)-1], Err: err})
		}
	}
	report, err := r.store.Import(ctx, source, config)
	r.report = before.with(report)
	var wrong *eventstore.ImportError
	if errors.As(err, &wrong) {
		return &RowError{Row: yielded[wrong.Index], Err: err}
	}
	return err
}

// with adds what a further import of this run did.
func (r TableReport) with(more eventstore.ImportReport) TableReport {
	r.Events += more.Events
	r.Existing += more.Existing
	r.Skipped += more.Skipped
	r.Total = more.Total
	r.Bookmark, r.Position = more.Bookmark, max(r.Position, more.Position)
	return r
}

// keys reads a page of keys, after one (nil: from the start) and up to another.
func (t *table) keys(ctx context.Context, after *key, upTo key) ([]key, error) {
	place := func(at, id string) string { return fmt.Sprintf(`(%s::%s, %s::text::%s)`, at, t.timeType, id, t.idType) }
	row := fmt.Sprintf(`(%s, %s)`, t.createdAt(), t.id())
	sql := t.keyColumns() + t.from() + ` WHERE ` + row + ` <= ` + place("$2", "$3")
	args := []any{keysPage, upTo.at, upTo.id}
	if after != nil {
		sql += ` AND ` + row + ` > ` + place("$4", "$5")
		args = append(args, after.at, after.id)
	}
	rows, err := t.db.Query(ctx, sql+t.inOrder()+` LIMIT $1::bigint`, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (k key, err error) {
		var micros int64
		err = row.Scan(&micros, &k.id)
		k.at = time.UnixMicro(micros).UTC()
		return k, err
	})
}

// rowsByID yields rows in the order of the table; those that are gone are passed over.
func (t *table) rowsByID(ctx context.Context, ids []string) iter.Seq2[Row, error] {
	where := fmt.Sprintf(` WHERE %s = ANY ($1::text[]::%s[])`, t.id(), t.idType)
	return func(yield func(Row, error) bool) {
		for chunk := range slices.Chunk(ids, latePage) {
			page, _, err := t.read(ctx, where+t.inOrder(), chunk)
			if err != nil {
				yield(Row{}, err)
				return
			}
			for _, row := range page {
				if !yield(row, nil) {
					return
				}
			}
		}
	}
}
