package analytics

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
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

// leftOut are the positions that have no rows, and why.
func (at places) leftOut() map[eventstore.Position]string {
	left := map[eventstore.Position]string{}
	for _, p := range at.parked {
		left[eventstore.Position(p)] = "its event is parked"
	}
	for _, p := range at.skipped {
		left[eventstore.Position(p)] = "its event was skipped"
	}
	return left
}

// wrongRows is a position whose rows are not those that its event makes.
type wrongRows struct {
	Position eventstore.Position `json:"position"`
	Type     string              `json:"event_type,omitempty"`
	Want     int                 `json:"want"`
	Have     int                 `json:"have"`
	Reason   string              `json:"reason,omitempty"`
}

// walk holds a fact's rows against the log, position by position.
type walk struct {
	star *Star
	fact Fact
	tx   pgx.Tx
	sql  string
	left map[eventstore.Position]string

	found   Findings
	unread  int                   // events whose body the Cipher does not give
	rowless []eventstore.Position // the first of those without rows
	without int                   // how many of those there are
}

// completeness holds a fact against the log, up to where the star stands: each event has as many rows as Rows makes of it, and
// no other position has any. It looks at the newest window, and at one of the older ones, which runs take in turn.
func (s *Star) completeness(f Fact) func(context.Context, pgx.Tx) (Findings, error) {
	return func(ctx context.Context, tx pgx.Tx) (Findings, error) {
		at, err := s.places(ctx, tx)
		if err != nil {
			return Findings{}, err
		}
		w := &walk{star: s, fact: f, tx: tx, left: at.leftOut()}
		if w.sql, err = sqlOf("check_have", "schema", string(pg.QuoteSchema(s.store.Schema())), "fact", s.table(f.Name)); err != nil {
			return Findings{}, err
		}
		from := max(0, at.upTo-s.config.CheckWindow)
		if err := w.look(ctx, from, at.upTo); err != nil {
			return w.found, err
		}
		if err := w.compare(ctx, at.upTo, math.MaxInt64, nil); err != nil {
			return w.found, err
		}
		note := fmt.Sprintf("positions %d to %d", from+1, at.upTo)
		if from > 0 {
			older, err := s.olderThan(ctx, tx, f, from)
			if err != nil {
				return w.found, err
			}
			next := max(0, older-s.config.CheckWindow)
			if err := w.look(ctx, next, older); err != nil {
				return w.found, err
			}
			note += fmt.Sprintf(" and %d to %d", next+1, older)
			w.found.reached = &next
		}
		return w.result(at, note)
	}
}

// olderThan is where the older windows go on, down from where the last run came to; from the newest window again after the first.
func (s *Star) olderThan(ctx context.Context, tx pgx.Tx, f Fact, newest eventstore.Position) (eventstore.Position, error) {
	var reached eventstore.Position
	err := tx.QueryRow(ctx, s.fill(`SELECT reached FROM {{`+tableResults+`}} WHERE check_name = $1::text AND reached IS NOT NULL ORDER BY run DESC LIMIT 1`),
		f.Name+completenessSuffix).Scan(&reached)
	if errors.Is(err, pgx.ErrNoRows) {
		return newest, nil
	}
	if reached <= 0 || reached > newest {
		reached = newest
	}
	return reached, err
}

// events are those that a fact is made of, after a position. Months that were archived are left out where the store cannot read them.
func (s *Star) events(ctx context.Context, f Fact, from eventstore.Position) iter.Seq2[eventstore.Chunk, error] {
	return func(yield func(eventstore.Chunk, error) bool) {
		filter := eventstore.Filter{Types: f.Types}
		for again := true; again; {
			again = false
			for chunk, err := range s.store.Chunks(ctx, from, filter) {
				if archived := (*eventstore.ArchivedError)(nil); errors.As(err, &archived) && archived.Err == nil {
					filter.Recorded.From, again = archived.Month.AddDate(0, 1, 0), true
					break
				}
				if !yield(chunk, err) || err != nil {
					return
				}
				from = chunk.UpTo
			}
		}
	}
}

// look goes through the positions after from, up to upTo.
func (w *walk) look(ctx context.Context, from, upTo eventstore.Position) error {
	for chunk, err := range w.star.events(ctx, w.fact, from) {
		if err != nil {
			return err
		}
		events := slices.DeleteFunc(chunk.Events, func(e eventstore.Recorded) bool { return e.Position > upTo })
		until := min(chunk.UpTo, upTo)
		if err := w.compare(ctx, from, until, events); err != nil {
			return err
		}
		if from = until; from == upTo {
			return nil
		}
	}
	return w.compare(ctx, from, upTo, nil)
}

// compare holds the events of a stretch of positions against the rows of these.
func (w *walk) compare(ctx context.Context, from, upTo eventstore.Position, events []eventstore.Recorded) error {
	have, err := w.have(ctx, from, upTo)
	if err != nil {
		return err
	}
	for _, stored := range events {
		if w.left[stored.Position] != "" {
			continue
		}
		rows := have[stored.Position].Rows
		delete(have, stored.Position)
		e, err := w.star.store.Decode(ctx, stored)
		switch {
		case errors.Is(err, eventstore.ErrCipher) && ctx.Err() == nil: // its key was erased, and what was said in it
			w.cannotRead(stored.Position, rows)
			continue
		case err != nil:
			return err
		}
		want, err := w.fact.Rows(e)
		if err != nil {
			return fmt.Errorf("event %d: %w", e.Position, err)
		}
		w.judge(wrongRows{Position: e.Position, Type: e.Type, Want: len(want), Have: rows})
	}
	for _, p := range slices.Sorted(maps.Keys(have)) {
		if !have[p].Archived {
			w.judge(wrongRows{Position: p, Have: have[p].Rows, Reason: cmp.Or(w.left[p], "the log has no such event there")})
		}
	}
	return nil
}

func (w *walk) judge(rows wrongRows) {
	w.found.Total++
	if rows.Want == rows.Have {
		return
	}
	w.found.Failing++
	if len(w.found.Rows) < keptRows {
		w.found.Rows = append(w.found.Rows, rows)
	}
}

func (w *walk) cannotRead(p eventstore.Position, rows int) {
	w.unread++
	if rows > 0 {
		return
	}
	if w.without++; len(w.rowless) < keptRows {
		w.rowless = append(w.rowless, p)
	}
}

// rowsAt are a position's rows. Where Archived, its month was taken off the log.
type rowsAt struct {
	Position eventstore.Position
	Rows     int
	Archived bool
}

func (w *walk) have(ctx context.Context, from, upTo eventstore.Position) (map[eventstore.Position]rowsAt, error) {
	rows, err := w.tx.Query(ctx, w.sql, int64(from), int64(upTo))
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[rowsAt])
	have := map[eventstore.Position]rowsAt{}
	for _, r := range found {
		have[r.Position] = r
	}
	return have, err
}

// result says what there is to know beside the rows.
func (w *walk) result(at places, note string) (Findings, error) {
	if len(w.left) > 0 {
		note += fmt.Sprintf("; %d parked and %d skipped events of all types are left out", len(at.parked), len(at.skipped))
	}
	if w.unread > 0 {
		note += fmt.Sprintf("; the bodies of %d cannot be read any more, and %d of these have no rows", w.unread, w.without)
	}
	if w.without > 0 {
		note += fmt.Sprintf(": positions %d", w.rowless)
	}
	w.found.Note = note
	if w.found.Total == 0 {
		return w.found, fmt.Errorf("%w: there are no such events: %s", ErrSkip, note)
	}
	return w.found, nil
}

// sampled is how many of the newest parts of an aggregate are computed again, and how many at random.
const sampled = 7

// agreement computes a sample of an aggregate again, as of the last refresh. Parts that have changed since are left out.
func (s *Star) agreement(a Aggregate) func(context.Context, pgx.Tx) (Findings, error) {
	return func(ctx context.Context, tx pgx.Tx) (found Findings, err error) {
		today, err := s.lastRefresh(ctx, tx)
		if err != nil {
			return found, err
		}
		var days []time.Time
		var projects []string
		err = tx.QueryRow(ctx, `
SELECT coalesce(array_agg(DISTINCT (at AT TIME ZONE $1::text)::date) FILTER (WHERE at IS NOT NULL), '{}'), coalesce(array_agg(DISTINCT project_id), '{}')
  FROM `+s.table(tableDirty)+` WHERE coalesce(aggregate, '') = ANY ($2::text[])`, s.config.TimeZone, append(keysOf(s.madeOf(a)), "", a.Name)).Scan(&days, &projects)
		if err != nil {
			return found, err
		}
		changed, err := s.parts(ctx, tx, a, days, projects, today, false)
		if err != nil {
			return found, err
		}
		sample, err := s.sampleOf(ctx, tx, a, changed, today)
		if err != nil {
			return found, err
		}
		err = s.compareParts(ctx, tx, a, sample, today, &found)
		return found, err
	}
}

// sampleOf chooses among the parts that facts lie in: dates or ids.
func (s *Star) sampleOf(ctx context.Context, tx pgx.Tx, a Aggregate, changed any, today time.Time) (any, error) {
	parts := `SELECT project_id AS part FROM {{dim_projects}}`
	if a.By != ByProject {
		var facts []string
		for _, f := range s.facts {
			facts = append(facts, `EXISTS (SELECT FROM {{`+f.Name+`}} f WHERE f.day = d.day)`)
		}
		part := `(day + n)`
		if a.By == ByWeek {
			part = `date_trunc('week', day + n)::date`
		}
		var err error
		parts, err = sqlOf("check_days", "facts", strings.Join(facts, " OR "), "part", part, "reach", fmt.Sprint(a.Reach), "today", literal(today.Format(time.DateOnly))+"::date")
		if err != nil {
			return nil, err
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
	var different []json.RawMessage
	if err := tx.QueryRow(ctx, s.fill(sql), parts, today, keptRows).Scan(&found.Total, &found.Failing, &different); err != nil {
		return err
	}
	for _, row := range different {
		found.Rows = append(found.Rows, row)
	}
	if found.Total == 0 {
		return fmt.Errorf("%w: the newest parts and those chosen have no rows, neither stored nor computed", ErrSkip)
	}
	return nil
}
