package analytics

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/projection"
)

// largest is the end of a history that goes on.
const largest = int64(1<<63 - 1)

// writeDimensions brings the dimensions up to date, and makes the members that facts refer to before they were introduced.
func (s *Star) writeDimensions(ctx context.Context, tx pgx.Tx, batch *projection.Batch, l *load) error {
	if err := addYears(ctx, tx, batch, l.years); err != nil {
		return err
	}
	for _, c := range slices.Concat(l.changes[Projects], l.changes[Personas]) { // members refer to members
		switch {
		case c.id == "":
		case c.of == Personas:
			l.ids[Projects][c.values[0].(string)], l.ids[Users][c.values[1].(string)] = true, true
		default:
			l.ids[Users][c.values[1].(string)] = true
		}
	}
	for _, d := range []Dimension{Projects, Users, Personas} {
		if err := s.writeChanges(ctx, tx, batch, d, l.changes[d], l.dirty); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO `+batch.Table(string(d))+` (`+d.key()+`) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING`, keysOf(l.ids[d]))
		if err != nil {
			return fmt.Errorf("placeholders of %s: %w", d, err)
		}
	}
	return nil
}

func addYears(ctx context.Context, tx pgx.Tx, batch *projection.Batch, years map[int]bool) error {
	for _, year := range slices.Sorted(maps.Keys(years)) {
		_, err := tx.Exec(ctx, `
INSERT INTO `+batch.Table(dimDate)+`
SELECT d::date, extract(year FROM d), extract(quarter FROM d), date_trunc('month', d)::date, date_trunc('week', d)::date, extract(isodow FROM d), extract(isodow FROM d) > 5
  FROM generate_series(make_date($1::integer, 1, 1)::timestamp, make_date($1::integer, 12, 31)::timestamp, '1 day') AS d
 WHERE NOT EXISTS (SELECT FROM `+batch.Table(dimDate)+` WHERE day = make_date($1::integer, 1, 1))
    ON CONFLICT DO NOTHING`, year)
		if err != nil {
			return fmt.Errorf("the days of %d: %w", year, err)
		}
	}
	return nil
}

// member is a row of a dimension.
type member struct {
	values              []any
	created, updated    *time.Time
	position            int64
	listed, placeholder bool
}

// writeChanges folds what a batch says of the members into their rows.
func (s *Star) writeChanges(ctx context.Context, tx pgx.Tx, batch *projection.Batch, d Dimension, changes []change, marks dirty) error {
	if len(changes) == 0 {
		return nil
	}
	members, err := s.readMembers(ctx, tx, batch, d, changes)
	if err != nil {
		return fmt.Errorf("reading %s: %w", d, err)
	}
	var past history
	touched := map[string]bool{}
	for _, c := range changes {
		m := members[c.id]
		if m == nil {
			m = &member{placeholder: true}
			members[c.id] = m
		}
		if c.id == "" || c.hint && !m.placeholder && !m.listed {
			continue
		}
		if c.hint && !m.placeholder && sameText(m.values[:len(dimensionColumns(d))], c.values) {
			continue
		}
		at := c.event.OccurredAt
		before := m.values
		if m.created == nil {
			m.created = &at
		}
		m.values, m.updated, m.position, m.listed, m.placeholder = c.values, &at, int64(c.event.Position), c.hint, false
		touched[c.id] = true
		if d == Personas {
			for _, values := range [][]any{before, c.values} { // it may have left a project
				if len(values) > 0 {
					marks[mark{project: fmt.Sprint(values[0])}] = true
				}
			}
		}
		past.add(c)
	}
	columns := []string{d.key()}
	for _, c := range append(s.members(d), ownColumns()...) {
		columns = append(columns, c.Name)
	}
	var rows [][]any
	for _, id := range keysOf(touched) {
		m := members[id]
		row := append([]any{id}, m.values...)
		rows = append(rows, append(row, m.created, m.updated, m.position, m.listed, m.placeholder))
	}
	if err := batch.Upsert(ctx, tx, string(d), columns, []string{d.key()}, rows); err != nil || d != Personas {
		return err
	}
	return past.write(ctx, tx, batch, s.members(Personas))
}

// sameText compares values by their texts, as an integer comes back from the database as another type; values may have more.
func sameText(columns, values []any) bool {
	return slices.EqualFunc(columns, values[:len(columns)], func(a, b any) bool {
		return (a == nil) == (b == nil) && fmt.Sprint(a) == fmt.Sprint(b)
	})
}

func (s *Star) readMembers(ctx context.Context, tx pgx.Tx, batch *projection.Batch, d Dimension, changes []change) (map[string]*member, error) {
	ids := map[string]bool{}
	for _, c := range changes {
		ids[c.id] = true
	}
	var names []string
	for _, c := range s.members(d) {
		names = append(names, c.Name)
	}
	rows, err := tx.Query(ctx, `SELECT `+d.key()+`, created_at, updated_at, position, listed, placeholder, `+strings.Join(names, ", ")+
		` FROM `+batch.Table(string(d))+` WHERE `+d.key()+` = ANY ($1::text[])`, keysOf(ids))
	if err != nil {
		return nil, err
	}
	members := map[string]*member{}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
	for _, values := range found {
		m := &member{position: values[3].(int64), listed: values[4].(bool), placeholder: values[5].(bool), values: values[6:]}
		for i, t := range []**time.Time{&m.created, &m.updated} {
			if at, ok := values[1+i].(time.Time); ok {
				*t = &at
			}
		}
		members[values[0].(string)] = m
	}
	return members, err
}

// history is what a batch adds to the personas' history.
type history struct {
	rows  [][]any
	last  map[string][]any // the newest row of each persona in the batch
	first []change         // the first change of each
}

func (h *history) add(c change) {
	if h.last == nil {
		h.last = map[string][]any{}
	}
	position := int64(c.event.Position)
	before, ok := h.last[c.id]
	switch {
	case ok && before[1] == position: // a list that names it twice
		copy(before[3:], c.values)
		return
	case ok:
		before[2], before[len(before)-1] = position, c.event.OccurredAt
	default:
		h.first = append(h.first, c)
	}
	row := append([]any{c.id, position, largest}, c.values...)
	row = append(row, c.event.OccurredAt, nil)
	h.last[c.id] = row
	h.rows = append(h.rows, row)
}

// write closes the states that the batch changes. Later ones than it are there only where a persona's own events were parked, while
// lists of participants spoke for it, which would not have counted: they go.
func (h *history) write(ctx context.Context, tx pgx.Tx, batch *projection.Batch, members []Column) error {
	if len(h.rows) == 0 {
		return nil
	}
	ids, positions, times := make([]string, len(h.first)), make([]int64, len(h.first)), make([]time.Time, len(h.first))
	for i, c := range h.first {
		ids[i], positions[i], times[i] = c.id, int64(c.event.Position), c.event.OccurredAt
	}
	_, err := tx.Exec(ctx, `
WITH c AS (SELECT * FROM unnest($1::text[], $2::bigint[], $3::timestamptz[]) AS c (id, position, at)),
     listed AS (DELETE FROM `+batch.Table(dimPersonaHistory)+` AS h USING c WHERE h.persona_id = c.id AND h.from_position > c.position)
UPDATE `+batch.Table(dimPersonaHistory)+` AS h SET to_position = c.position, valid_to = c.at
  FROM c WHERE h.persona_id = c.id AND h.from_position < c.position AND h.to_position > c.position`, ids, positions, times)
	if err != nil {
		return fmt.Errorf("closing the history of personas: %w", err)
	}
	columns := []string{"persona_id", "from_position", "to_position"}
	for _, c := range members {
		columns = append(columns, c.Name)
	}
	return batch.Copy(ctx, tx, dimPersonaHistory, append(columns, "valid_from", "valid_to"), h.rows)
}

func keysOf(set map[string]bool) []string {
	return append([]string{}, slices.Sorted(maps.Keys(set))...)
}
