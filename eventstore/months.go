package eventstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
)

// monthOf is the first instant of t's UTC month.
func monthOf(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// leafOf names a month's partition.
func leafOf(month time.Time) string { return "events_" + month.Format("2006_01") }

// monthList is the process's copy of the month registry. Readers go to the leaves it names: a query through the parent
// locks every partition on each execution.
type monthList struct {
	mu       sync.RWMutex
	revision int64
	online   []time.Time     // ascending; months whose leaf can be read
	archived []ArchivedMonth // ascending; months with events that left
}

func (l *monthList) get() (online []time.Time, archived []ArchivedMonth, revision int64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.online, l.archived, l.revision
}

// registeredMonth is a row of the month registry.
type registeredMonth struct {
	Month       time.Time
	State       string
	Revision    int64
	First, Last Position // 0 before it is sealed, and where it is empty
	Archive     string
}

// gone makes an error of a transaction that reads a month which has been dropped since it looked: it has to be repeated.
func gone(err error) error {
	if pg.Code(err) == pg.UndefinedTable {
		return fmt.Errorf("%w: a month has left the database meanwhile: %w", ErrSerialization, err)
	}
	return err
}

// load reads the registry again. To be complete for positions up to a settled one it must run after that was read.
func (l *monthList) load(ctx context.Context, db pg.DB, sql string) error {
	rows, err := db.Query(ctx, sql)
	if err != nil {
		return fmt.Errorf("reading the months: %w", err)
	}
	registry, err := pgx.CollectRows(rows, pgx.RowToStructByPos[registeredMonth])
	if err != nil {
		return fmt.Errorf("reading the months: %w", err)
	}
	var online []time.Time
	var archived []ArchivedMonth
	var revision int64
	for _, m := range registry {
		revision += m.Revision
		switch {
		case m.State != "detached" && m.State != "dropped":
			online = append(online, m.Month.UTC())
		case m.First > 0:
			archived = append(archived, ArchivedMonth{Month: m.Month.UTC(), First: m.First, Last: m.Last, Archive: m.Archive})
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.online, l.archived, l.revision = online, archived, revision
	return nil
}

// between keeps the months that may hold recorded times from first to last (both included; zero is open).
func between(months []time.Time, first, last time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(months), func(month time.Time) bool {
		return !first.IsZero() && month.Before(monthOf(first)) || !last.IsZero() && month.After(last)
	})
}
