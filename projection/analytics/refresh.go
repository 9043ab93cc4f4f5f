package analytics

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
	"github.com/sight-platform/hindsight/projection"
)

// tableDirty is where facts leave what has changed.
const tableDirty = "analytics_dirty"

const dirtySQL = `CREATE TABLE {{table}} (at timestamptz, project_id text COLLATE "C");
COMMENT ON TABLE {{table}} IS 'What has changed since aggregates were computed. Rows are added by the projection, and taken by a refresh.';
COMMENT ON COLUMN {{table}}.at IS 'A quarter of an hour with changed facts, or the instant of one before 1973; NULL for a change of a dimension alone.';
COMMENT ON COLUMN {{table}}.project_id IS 'The project.';`

// quarter is the largest step of which all offsets of time zones are multiples, so that a mark belongs to one day in each. Up to
// 1972 there were others: marks are exact then.
const (
	quarter      = 15 * time.Minute
	quartersFrom = 1973
)

type mark struct {
	at      time.Time // zero: a dimension
	project string
}

// dirty are the marks of a batch.
type dirty map[mark]bool

func (d dirty) fact(at time.Time, project string) {
	if at = at.UTC(); at.Year() >= quartersFrom {
		at = at.Truncate(quarter)
	}
	d[mark{at, project}] = true
}

func (d dirty) write(ctx context.Context, tx pgx.Tx, batch *projection.Batch) error {
	rows := make([][]any, 0, len(d))
	for m := range d {
		row := []any{m.at, m.project}
		if m.at.IsZero() {
			row[0] = nil
		}
		rows = append(rows, row)
	}
	return batch.Copy(ctx, tx, tableDirty, []string{"at", "project_id"}, rows)
}

func tableNames() *regexp.Regexp { return regexp.MustCompile(`{{[a-z_][a-z0-9_]*}}`) }

// Refreshed says what a [Star.Refresh] has computed anew.
type Refreshed struct {
	Days, Projects int
	// Today is the day it was, in Config.TimeZone.
	Today time.Time
	Took  time.Duration
}

// refreshDays is how many days one transaction computes: it bounds what a refresh holds, and what is lost when it is killed.
const refreshDays = 31

// Refresh brings the aggregates up to date with the facts: of the days, weeks and projects that have changed, and of today's. A
// month of days is committed at a time, so that it goes on where it was after it was stopped. Any number of processes may run
// it: one works, the others wait. It needs the tables: [projection.Runner.Migrate].
func (s *Star) Refresh(ctx context.Context) (Refreshed, error) {
	var total Refreshed
	started := time.Now()
	for {
		var done Refreshed
		err := pg.InTx(ctx, s.store.Pool(), func(tx pgx.Tx) (err error) {
			done, err = s.refresh(ctx, tx)
			return err
		})
		if err != nil {
			return total, fmt.Errorf("refreshing aggregates: %w", err)
		}
		s.refreshedOn(done.Today)
		total = Refreshed{total.Days + done.Days, total.Projects + done.Projects, done.Today, time.Since(started)}
		if done.Days < refreshDays {
			return total, nil
		}
	}
}

// KeepFresh refreshes every so often, until ctx ends. report, which may be nil, is told of each refresh; after one that failed it
// goes on, as what had changed is still marked.
func (s *Star) KeepFresh(ctx context.Context, every time.Duration, report func(Refreshed, error)) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for ctx.Err() == nil {
		done, err := s.Refresh(ctx)
		if report != nil && ctx.Err() == nil {
			report(done, err)
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// refresh computes the oldest of what has changed.
func (s *Star) refresh(ctx context.Context, tx pgx.Tx) (Refreshed, error) {
	var done Refreshed
	if _, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', '60s', true), pg_advisory_xact_lock($1::text::regclass::oid::bigint)`, s.table(tableDirty)); err != nil {
		return done, err
	}
	var today time.Time
	if err := tx.QueryRow(ctx, `SELECT (clock_timestamp() AT TIME ZONE $1::text)::date`, s.config.TimeZone).Scan(&today); err != nil {
		return done, err
	}
	days, projects, err := s.takeDirty(ctx, tx)
	if err != nil {
		return done, err
	}
	newDay := s.isNewDay(today)
	for _, a := range s.aggregates {
		parts, err := s.parts(ctx, tx, a, days, projects, today, newDay)
		if err == nil {
			err = s.compute(ctx, tx, a, parts, today)
		}
		if err != nil {
			return done, fmt.Errorf("%s: %w", a.Name, err)
		}
	}
	weeks, err := dates(ctx, tx, Aggregate{By: ByWeek}, days, today, false)
	if err == nil {
		err = s.refreshCohorts(ctx, tx, weeks, today)
	}
	return Refreshed{Days: len(days), Projects: len(projects), Today: today}, err
}

func (s *Star) isNewDay(today time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !today.Equal(s.today)
}

func (s *Star) refreshedOn(today time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.today = today
}

// takeDirty takes the marks of the first changed days.
func (s *Star) takeDirty(ctx context.Context, tx pgx.Tx) (days []time.Time, projects []string, err error) {
	err = tx.QueryRow(ctx, `
WITH chosen AS (SELECT DISTINCT (at AT TIME ZONE $1::text)::date AS day FROM `+s.table(tableDirty)+` WHERE at IS NOT NULL ORDER BY 1 LIMIT $2::bigint),
     taken AS (DELETE FROM `+s.table(tableDirty)+` WHERE at IS NULL OR (at AT TIME ZONE $1::text)::date IN (SELECT day FROM chosen) RETURNING project_id)
SELECT (SELECT coalesce(array_agg(day), '{}') FROM chosen), (SELECT coalesce(array_agg(DISTINCT project_id), '{}') FROM taken)`,
		s.config.TimeZone, refreshDays).Scan(&days, &projects)
	return days, projects, err
}

// parts are the days, weeks or projects of an aggregate that are to be computed.
func (s *Star) parts(ctx context.Context, tx pgx.Tx, a Aggregate, days []time.Time, projects []string, today time.Time, newDay bool) (any, error) {
	if a.By == ByProject {
		return projects, nil
	}
	if a.Reach > 0 && newDay { // the days that followed its last row have rows too, however long nobody refreshed
		var last *time.Time
		if err := tx.QueryRow(ctx, `SELECT max(`+a.Key[0]+`) FROM `+s.table(a.Name)).Scan(&last); err != nil {
			return nil, err
		}
		if last != nil {
			days = append(days[:len(days):len(days)], *last)
		}
	}
	return dates(ctx, tx, a, days, today, newDay)
}

// dates are the days or weeks of an aggregate that are to be computed. newDay says that a day may have begun since the last
// refresh: days that look back have rows although nothing happened on them.
func dates(ctx context.Context, tx pgx.Tx, a Aggregate, days []time.Time, today time.Time, newDay bool) (found []time.Time, err error) {
	part := `d + n`
	if a.By == ByWeek {
		part = `date_trunc('week', d)::date`
	}
	err = tx.QueryRow(ctx, `
SELECT coalesce(array_agg(day), '{}')
  FROM (SELECT `+part+` AS day FROM unnest($1::date[]) AS d, generate_series(0, $2::integer) AS n
         UNION SELECT $3::date - n FROM generate_series(0, $2::integer) AS n WHERE $4::boolean AND $2::integer > 0) AS parts`, days, a.Reach, today, newDay).Scan(&found)
	return found, err
}

// compute replaces the rows of some parts.
func (s *Star) compute(ctx context.Context, tx pgx.Tx, a Aggregate, parts any, today time.Time) error {
	if _, err := tx.Exec(ctx, `DELETE FROM `+s.table(a.Name)+` WHERE `+a.Key[0]+` = ANY ($1::`+a.By.arrayType()+`)`, parts); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO `+s.table(a.Name)+` WITH given AS (SELECT $1::`+a.By.arrayType()+`, $2::date) SELECT * FROM (`+s.fill(a.SQL)+`) AS r`, parts, today)
	return err
}

// table is the quoted name of a table of the star.
func (s *Star) table(name string) string { return quote(s.store.Schema(), s.physical(name)) }

// fill puts the tables in for their names.
func (s *Star) fill(sql string) string {
	return tableNames().ReplaceAllStringFunc(sql, func(found string) string { return s.table(strings.Trim(found, "{}")) })
}
