package analytics

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
	"github.com/sight-platform/hindsight/projection"
)

// places says where the star stands in the log.
type places struct {
	upTo            eventstore.Position
	parked, skipped []int64
}

// places reads where the star stands.
func (s *Star) places(ctx context.Context, db pg.DB) (at places, err error) {
	sql, err := sqlOf("check_places", "schema", string(pg.QuoteSchema(s.store.Schema())))
	if err != nil {
		return at, err
	}
	rows, err := db.Query(ctx, sql, s.config.Version)
	if err != nil {
		return at, notMigrated(err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p places, err error) {
		return p, row.Scan(&p.upTo, &p.parked, &p.skipped)
	})
	switch {
	case err != nil:
		return at, notMigrated(err)
	case len(found) == 0:
		return at, projection.ErrNotMigrated
	}
	return found[0], nil
}

// notMigrated names what is missing.
func notMigrated(err error) error {
	if pg.Code(err) == pg.UndefinedTable {
		return fmt.Errorf("%w: %w", projection.ErrNotMigrated, err)
	}
	return err
}

// wrongRows is an event whose rows are not there, or are more than it makes.
type wrongRows struct {
	Position int64  `json:"position"`
	Type     string `json:"event_type"`
	Want     int    `json:"want"`
	Have     int    `json:"have"`
}

// completeness holds a fact against the newest events of the log, up to where the star stands: each has as many rows as Rows
// makes of it. What is parked or skipped has none, and is counted apart.
func (s *Star) completeness(f Fact) func(context.Context, pgx.Tx) (Findings, error) {
	return func(ctx context.Context, tx pgx.Tx) (found Findings, err error) {
		at, err := s.places(ctx, tx)
		if err != nil {
			return found, err
		}
		left := map[eventstore.Position]bool{}
		for _, p := range slices.Concat(at.parked, at.skipped) {
			left[eventstore.Position(p)] = true
		}
		from := max(0, at.upTo-s.config.CheckWindow)
		unread := 0
		for chunk, err := range s.store.Chunks(ctx, from, eventstore.Filter{Types: f.Types}) {
			if err != nil {
				return found, err
			}
			events := slices.DeleteFunc(chunk.Events, func(e eventstore.Recorded) bool { return e.Position > at.upTo || left[e.Position] })
			n, err := s.compareRows(ctx, tx, f, events, &found)
			if err != nil {
				return found, err
			}
			unread += n
			if chunk.UpTo >= at.upTo {
				break
			}
		}
		if found.Total == 0 {
			return found, fmt.Errorf("%w: the window has no such events (%d cannot be decoded)", ErrSkip, unread)
		}
		found.Note = fmt.Sprintf("positions %d to %d", from+1, at.upTo)
		if len(left) > 0 {
			found.Note += fmt.Sprintf("; %d parked and %d skipped events of all types are left out", len(at.parked), len(at.skipped))
		}
		if unread > 0 {
			found.Note += fmt.Sprintf("; %d cannot be decoded", unread)
		}
		return found, nil
	}
}

// compareRows counts the rows of a page of events. What cannot be decoded any more, as its key was erased, is told apart.
func (s *Star) compareRows(ctx context.Context, tx pgx.Tx, f Fact, events []eventstore.Recorded, found *Findings) (unread int, err error) {
	if len(events) == 0 {
		return 0, nil
	}
	positions := make([]int64, len(events))
	first, last := events[0].OccurredAt, events[0].OccurredAt // bound the partitions
	for i, e := range events {
		positions[i] = int64(e.Position)
		if e.OccurredAt.Before(first) {
			first = e.OccurredAt
		}
		if e.OccurredAt.After(last) {
			last = e.OccurredAt
		}
	}
	rows, err := tx.Query(ctx, `SELECT position, count(*) FROM `+s.table(f.Name)+` WHERE position = ANY ($1::bigint[]) AND timestamp BETWEEN $2::timestamptz AND $3::timestamptz GROUP BY 1`,
		positions, first, last)
	if err != nil {
		return 0, err
	}
	type count struct {
		Position int64
		Rows     int
	}
	counts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[count])
	if err != nil {
		return 0, err
	}
	have := map[int64]int{}
	for _, c := range counts {
		have[c.Position] = c.Rows
	}
	for _, stored := range events {
		e, err := s.store.Decode(ctx, stored)
		if ctx.Err() != nil {
			return 0, err
		}
		if err != nil {
			unread++
			continue
		}
		want, err := f.Rows(e)
		if err != nil {
			return 0, fmt.Errorf("event %d: %w", e.Position, err)
		}
		found.Total++
		if wrong := (wrongRows{int64(e.Position), e.Type, len(want), have[int64(e.Position)]}); wrong.Want != wrong.Have {
			found.Failing++
			if len(found.Rows) < keptRows {
				found.Rows = append(found.Rows, wrong)
			}
		}
	}
	return unread, nil
}

// sampled is how many of the newest parts of an aggregate are computed again, and how many at random.
const sampled = 7

// agreement computes a sample of an aggregate again. Parts that have changed since they were computed are left out.
func (s *Star) agreement(a Aggregate) func(context.Context, pgx.Tx) (Findings, error) {
	return func(ctx context.Context, tx pgx.Tx) (found Findings, err error) {
		var today time.Time
		if err := tx.QueryRow(ctx, `SELECT (clock_timestamp() AT TIME ZONE $1::text)::date`, s.config.TimeZone).Scan(&today); err != nil {
			return found, err
		}
		var days []time.Time
		var projects []string
		err = tx.QueryRow(ctx, `
SELECT coalesce(array_agg(DISTINCT (at AT TIME ZONE $1::text)::date) FILTER (WHERE at IS NOT NULL), '{}'), coalesce(array_agg(DISTINCT project_id), '{}')
  FROM `+s.table(tableDirty), s.config.TimeZone).Scan(&days, &projects)
		if err != nil {
			return found, err
		}
		changed, err := s.parts(ctx, tx, a, days, projects, today, true)
		if err != nil {
			return found, err
		}
		sample, err := s.sampleOf(ctx, tx, a, changed)
		if err != nil {
			return found, err
		}
		err = s.compareParts(ctx, tx, a, sample, today, &found)
		return found, err
	}
}

// sampleOf chooses among the parts that facts lie in: dates or ids.
func (s *Star) sampleOf(ctx context.Context, tx pgx.Tx, a Aggregate, changed any) (any, error) {
	parts := `SELECT project_id AS part FROM {{dim_projects}}`
	if a.By != ByProject {
		var first, last []string
		for _, f := range s.facts {
			first = append(first, `(SELECT min(day) FROM {{`+f.Name+`}})`)
			last = append(last, `(SELECT max(day) FROM {{`+f.Name+`}})`)
		}
		parts = fmt.Sprintf(`SELECT generate_series(least(%s), greatest(%s) + %d, '1 day')::date AS part`, strings.Join(first, ", "), strings.Join(last, ", "), a.Reach)
		if a.By == ByWeek {
			parts = `SELECT DISTINCT date_trunc('week', part)::date AS part FROM (` + parts + `) AS days`
		}
	}
	sql, err := sqlOf("check_parts", "parts", parts)
	if err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, s.fill(sql), changed, sampled)
	if err != nil {
		return nil, err
	}
	if a.By == ByProject {
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		return ids, skipEmpty(len(ids), err)
	}
	dates, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	return dates, skipEmpty(len(dates), err)
}

func skipEmpty(n int, err error) error {
	if err == nil && n == 0 {
		return fmt.Errorf("%w: all of it has changed since the last refresh, or nothing is there", ErrSkip)
	}
	return err
}

// compareParts computes parts again and joins them with what is stored. Sums of floating-point numbers depend on their order.
func (s *Star) compareParts(ctx context.Context, tx pgx.Tx, a Aggregate, parts any, today time.Time, found *Findings) error {
	names := make([]string, len(a.Columns))
	differs := []string{"stored." + a.Key[0] + " IS NULL", "computed." + a.Key[0] + " IS NULL"}
	for i, c := range a.Columns {
		names[i] = c.Name
		differ := fmt.Sprintf("stored.%[1]s IS DISTINCT FROM computed.%[1]s", c.Name)
		if strings.HasPrefix(c.Type, "double precision") || strings.HasPrefix(c.Type, "real") {
			differ += fmt.Sprintf(" AND coalesce(abs(stored.%[1]s - computed.%[1]s) > 1e-9 * greatest(1, abs(stored.%[1]s)), true)", c.Name)
		}
		differs = append(differs, differ)
	}
	sql, err := sqlOf("check_compare", "aggregate", s.table(a.Name), "part", a.Key[0], "array", a.By.arrayType(), "columns", strings.Join(names, ", "),
		"key", strings.Join(a.Key, ", "), "differs", strings.Join(differs, " OR "), "sql", a.SQL)
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, s.fill(sql), parts, today)
	if err != nil {
		return err
	}
	different, err := pgx.CollectRows(rows, pgx.RowToMap)
	if err != nil {
		return err
	}
	found.Failing = int64(len(different))
	for _, row := range different[:min(len(different), keptRows)] {
		found.Rows = append(found.Rows, row)
	}
	return tx.QueryRow(ctx, `SELECT count(*) FROM `+s.table(a.Name)+` WHERE `+a.Key[0]+` = ANY ($1::`+a.By.arrayType()+`)`, parts).Scan(&found.Total)
}
