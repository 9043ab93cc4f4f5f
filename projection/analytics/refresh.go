package analytics

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
	"github.com/sight-platform/hindsight/projection"
)

// tableDirty is where facts leave what has changed.
const tableDirty = "analytics_dirty"

const dirtySQL = `CREATE TABLE {{table}} (
    at         timestamptz,
    project_id text COLLATE "C",
    aggregate  text COLLATE "C",
    marked_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE {{table}} IS 'What has changed since aggregates were computed. Rows are added by the projection, and taken by a refresh.';
COMMENT ON COLUMN {{table}}.at IS 'A quarter of an hour with changed facts, or the instant of one before 1980; NULL for a change of a dimension alone.';
COMMENT ON COLUMN {{table}}.project_id IS 'The project.';
COMMENT ON COLUMN {{table}}.aggregate IS 'The aggregate that failed, and is to be computed again; NULL for all of them.';
COMMENT ON COLUMN {{table}}.marked_at IS 'When the mark was left.';`

// quarter is the largest step of which all offsets of time zones are multiples, so that a mark belongs to one day in each. Up to
// 1979 there were others (Kiritimati's was the last): marks are exact then.
const (
	quarter      = 15 * time.Minute
	quartersFrom = 1980
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

const (
	// refreshDays is how many days one transaction computes: it bounds what a refresh holds, and what is lost when it is killed.
	refreshDays = 31
	// refreshPatience is how long a refresh waits for that of another process.
	refreshPatience = 10 * time.Second
)

// ErrRefreshing is returned by [Star.Refresh] where another process refreshes for long: what had changed is still marked.
var ErrRefreshing = errors.New("another process refreshes the aggregates")

// AggregateError says of which aggregate something could not be computed. All else was.
type AggregateError struct {
	Aggregate string
	Parts     int // days, weeks or projects, which the next refresh tries again
	Err       error
}

func (e *AggregateError) Error() string {
	return fmt.Sprintf("%s: %d parts cannot be computed: %v", e.Aggregate, e.Parts, e.Err)
}

func (e *AggregateError) Unwrap() error { return e.Err }

// Refresh brings the aggregates up to date with the facts: of the days, weeks and projects that have changed, and of today's. A
// month of days is committed at a time, so that it goes on where it was after it was stopped. Any number of processes may run
// it: one works at a time, and who waits for another one longer than 10 s gets [ErrRefreshing]. A day, week or project of which
// an aggregate cannot be computed does not stop the rest: the error holds [AggregateError]s of those, and the next refresh
// tries them again. It needs the tables: [projection.Runner.Migrate].
func (s *Star) Refresh(ctx context.Context) (Refreshed, error) {
	var total Refreshed
	var failed []error
	started := time.Now()
	for after := (*time.Time)(nil); ; { // forward only: what fails is marked again
		var done portion
		err := pg.InTx(ctx, s.store.Pool(), func(tx pgx.Tx) (err error) {
			done, err = s.refresh(ctx, tx, after)
			return err
		})
		if err != nil {
			return total, fmt.Errorf("refreshing aggregates: %w", errors.Join(append(failed, err)...))
		}
		s.refreshedOn(done.today)
		failed = append(failed, done.failed...)
		total = Refreshed{total.Days + len(done.days), total.Projects + len(done.projects), done.today, time.Since(started)}
		if len(done.days) < refreshDays {
			break
		}
		after = &done.days[len(done.days)-1]
	}
	if len(failed) > 0 {
		return total, fmt.Errorf("refreshing aggregates: %w", errors.Join(failed...))
	}
	return total, nil
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

// portion is what a transaction of a refresh has computed.
type portion struct {
	days     []time.Time // in order
	projects []string
	today    time.Time
	failed   []error
}

// refresh computes the oldest of what has changed, of the days after one.
func (s *Star) refresh(ctx context.Context, tx pgx.Tx, after *time.Time) (done portion, err error) {
	patience := strconv.FormatInt(refreshPatience.Milliseconds(), 10)
	_, err = tx.Exec(ctx, `SELECT set_config('lock_timeout', $2::text, true), pg_advisory_xact_lock($1::text::regclass::oid::bigint)`, s.table(tableDirty), patience)
	if pg.Code(err) == pg.LockNotAvailable {
		return done, fmt.Errorf("%w: %w", ErrRefreshing, err)
	}
	if err == nil {
		err = tx.QueryRow(ctx, `SELECT (clock_timestamp() AT TIME ZONE $1::text)::date`, s.config.TimeZone).Scan(&done.today)
	}
	if err != nil {
		return done, err
	}
	taken, err := s.takeDirty(ctx, tx, after)
	if err != nil {
		return done, err
	}
	newDay := s.isNewDay(done.today)
	for _, a := range s.aggregates {
		m := taken.of(a.Name, s.madeOf(a))
		parts, err := s.parts(ctx, tx, a, m.Days, m.Projects, done.today, newDay)
		if err == nil {
			err = s.attempt(ctx, tx, a, parts, m.Since, &done, func(tx pgx.Tx, parts any) error { return s.compute(ctx, tx, a, parts, done.today) })
		}
		if err != nil {
			return done, fmt.Errorf("%s: %w", a.Name, err)
		}
	}
	cohorts := Aggregate{Name: tableCohorts, By: ByWeek}
	m := taken.of(cohorts.Name, map[string]bool{tableActivity: true})
	weeks, err := dates(ctx, tx, cohorts, m.Days, done.today, false)
	if err == nil {
		err = s.attempt(ctx, tx, cohorts, weeks, m.Since, &done, func(tx pgx.Tx, weeks any) error { return s.refreshCohorts(ctx, tx, weeks.([]time.Time), done.today) })
	}
	if err == nil {
		err = s.noteRefresh(ctx, tx, done.today)
	}
	for _, m := range taken {
		done.days, done.projects = union(done.days, m.Days), union(done.projects, m.Projects)
	}
	slices.SortFunc(done.days, time.Time.Compare)
	return done, err
}

// attempt computes parts of an aggregate under a savepoint. Where they fail together each is tried by itself, and those that
// fail again are marked again. It fails only where the whole transaction does.
func (s *Star) attempt(ctx context.Context, tx pgx.Tx, a Aggregate, parts any, since *time.Time, done *portion, compute func(pgx.Tx, any) error) error {
	try := func(parts any) error {
		return pg.InTx(ctx, tx, func(savepoint pgx.Tx) error { return compute(savepoint, parts) })
	}
	failed := try(parts)
	if failed == nil {
		return nil
	}
	var left any
	var n int
	switch parts := parts.(type) {
	case []string:
		left, n, failed = each(parts, failed, try)
	case []time.Time:
		left, n, failed = each(parts, failed, try)
	}
	switch {
	case failed == nil:
		return nil
	case ctx.Err() != nil || tx.Conn().IsClosed():
		return failed
	}
	done.failed = append(done.failed, &AggregateError{a.Name, n, failed})
	return s.markAgain(ctx, tx, a, left, since)
}

// each tries parts one by one that failed together, and returns those that fail, and the first error. It does not try where time
// was up or a lock was in the way: each would wait as long.
func each[T any](parts []T, together error, try func(any) error) (left []T, n int, first error) {
	const statementTimeout = "57014"
	if code := pg.Code(together); len(parts) < 2 || code == "" || code == pg.LockNotAvailable || code == statementTimeout {
		return parts, len(parts), together
	}
	for i := range parts {
		if err := try(parts[i : i+1]); err != nil {
			left, first = append(left, parts[i]), cmp.Or(first, err)
		}
	}
	return left, len(left), first
}

// markAgain leaves a mark for each part that failed, as old as those that were taken.
func (s *Star) markAgain(ctx context.Context, tx pgx.Tx, a Aggregate, parts any, since *time.Time) error {
	marks := `SELECT (part + time '12:00') AT TIME ZONE $3::text AS at, '' AS project_id FROM unnest($1::date[]) AS part`
	if a.By == ByProject {
		marks = `SELECT NULL::timestamptz AS at, part AS project_id FROM unnest($1::text[]) AS part WHERE $3::text <> ''` // no zone is needed
	}
	_, err := tx.Exec(ctx, `INSERT INTO `+s.table(tableDirty)+` (at, project_id, aggregate, marked_at)
SELECT marks.*, $2::text, coalesce($4::timestamptz, clock_timestamp()) FROM (`+marks+`) AS marks
 WHERE NOT EXISTS (SELECT FROM `+s.table(tableDirty)+` d WHERE d.aggregate = $2::text AND d.project_id = marks.project_id AND d.at IS NOT DISTINCT FROM marks.at)`, parts, a.Name, s.config.TimeZone, since)
	return err
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

// marks say what has changed, for all aggregates or for one.
type marks struct {
	Aggregate string // "": for all
	Days      []time.Time
	Projects  []string
	Since     *time.Time // the oldest of them
}

type allMarks []marks

// of are the marks for an aggregate: those for all, its own, and those of aggregates that it is made of.
func (all allMarks) of(name string, madeOf map[string]bool) (found marks) {
	for _, m := range all {
		if m.Aggregate != "" && m.Aggregate != name && !madeOf[m.Aggregate] {
			continue
		}
		found.Days, found.Projects = union(found.Days, m.Days), union(found.Projects, m.Projects)
		if found.Since == nil || m.Since.Before(*found.Since) {
			found.Since = m.Since
		}
	}
	return found
}

// union of two sets.
func union[T comparable](a, b []T) []T {
	if len(a) == 0 {
		return slices.Clip(b)
	}
	for _, v := range b {
		if !slices.Contains(a, v) {
			a = append(a, v)
		}
	}
	return a
}

// takeDirty takes the marks of the first changed days after one, and those of dimensions before the first.
func (s *Star) takeDirty(ctx context.Context, tx pgx.Tx, after *time.Time) (allMarks, error) {
	rows, err := tx.Query(ctx, `
WITH chosen AS (SELECT DISTINCT (at AT TIME ZONE $1::text)::date AS day FROM `+s.table(tableDirty)+`
                 WHERE at IS NOT NULL AND ($3::date IS NULL OR (at AT TIME ZONE $1::text)::date > $3::date) ORDER BY 1 LIMIT $2::bigint),
     taken AS (DELETE FROM `+s.table(tableDirty)+` WHERE at IS NULL AND $3::date IS NULL OR (at AT TIME ZONE $1::text)::date IN (SELECT day FROM chosen)
               RETURNING (at AT TIME ZONE $1::text)::date AS day, project_id, aggregate, marked_at)
SELECT coalesce(aggregate, ''), coalesce(array_agg(DISTINCT day) FILTER (WHERE day IS NOT NULL), '{}'), array_agg(DISTINCT project_id), min(marked_at)
  FROM taken GROUP BY 1`, s.config.TimeZone, refreshDays, after)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[marks])
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

// dates are the days or weeks of an aggregate that are to be computed: those that look back, up to today. newDay says that a day may have begun since the last
// refresh: days that look back have rows although nothing happened on them.
func dates(ctx context.Context, tx pgx.Tx, a Aggregate, days []time.Time, today time.Time, newDay bool) (found []time.Time, err error) {
	part := `d + n`
	if a.By == ByWeek {
		part = `date_trunc('week', d)::date`
	}
	err = tx.QueryRow(ctx, `
SELECT coalesce(array_agg(day), '{}')
  FROM (SELECT `+part+` AS day FROM unnest($1::date[]) AS d, generate_series(0, $2::integer) AS n WHERE $2::integer = 0 OR d + n <= $3::date
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
