package analytics

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

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

// known is what a dimension's row says of where its state comes from.
type known struct {
	ID       string
	Position int64
	Own      bool // from an event of its own, after which lists do not count
	Project  string
}

func (s *Star) readMembers(ctx context.Context, tx pgx.Tx, batch *projection.Batch, d Dimension, changes []change) (map[string]known, error) {
	ids := map[string]bool{}
	for _, c := range changes {
		ids[c.id] = true
	}
	project := "''"
	if d == Personas {
		project = "project_id"
	}
	rows, err := tx.Query(ctx, fmt.Sprintf(`SELECT %s, position, NOT listed, %s FROM %s WHERE %[1]s = ANY ($1::text[]) AND NOT placeholder`, d.key(), project, batch.Table(string(d))), keysOf(ids))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", d, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[known])
	members := map[string]known{}
	for _, k := range found {
		members[k.ID] = k
	}
	return members, err
}

// writeChanges adds what a batch says of the members to their history, and folds that into what they are. A batch may come
// late, as a parked event that is tried again does: then the states of later events are there already, and stay.
func (s *Star) writeChanges(ctx context.Context, tx pgx.Tx, batch *projection.Batch, d Dimension, changes []change, marks dirty) error {
	if len(changes) == 0 {
		return nil
	}
	members, err := s.readMembers(ctx, tx, batch, d, changes)
	if err != nil {
		return err
	}
	var rows [][]any
	at := map[string]int{}      // the place of a member's last row
	first := map[string]int64{} // its first position
	for _, c := range changes {
		k, position := members[c.id], int64(c.event.Position)
		if c.id == "" || c.hint && k.Own && k.Position < position {
			continue
		}
		if d == Personas {
			marks[mark{project: fmt.Sprint(c.values[0])}] = true
			if k.ID != "" { // it may have left a project
				marks[mark{project: k.Project}] = true
			}
		}
		row := append([]any{c.id, position, largest}, c.values...)
		row = append(row, c.hint, c.event.OccurredAt, nil)
		if i, ok := at[c.id]; ok && rows[i][1] == position { // a list that names it twice
			rows[i] = row
			continue
		}
		if _, ok := first[c.id]; !ok {
			first[c.id] = position
		}
		at[c.id] = len(rows)
		rows = append(rows, row)
		if !c.hint && position > k.Position {
			members[c.id] = known{c.id, position, true, k.Project}
		}
	}
	columns := []string{d.key(), "from_position", "to_position"}
	for _, c := range append(s.members(d), listedColumn()) {
		columns = append(columns, c.Name)
	}
	if err := batch.Copy(ctx, tx, d.history(), append(columns, "valid_from", "valid_to"), rows); err != nil {
		return err
	}
	return s.foldHistory(ctx, tx, batch, d, first)
}

// foldSQL is about the states from the one before a member's first change on. Lists of participants count until the first event
// of the persona's own: those after it go. Each state ends where the next one begins.
const foldSQL = `
WITH states AS (
    SELECT h.{{key}} AS id, h.from_position, h.valid_from,
           h.listed AND coalesce(bool_or(NOT h.listed) OVER (PARTITION BY h.{{key}} ORDER BY h.from_position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), false) AS gone
      FROM unnest($1::text[], $2::bigint[]) AS t (id, first)
     CROSS JOIN LATERAL (SELECT max(from_position) AS position FROM {{history}} WHERE {{key}} = t.id AND from_position < t.first) AS before
      JOIN {{history}} AS h ON h.{{key}} = t.id AND h.from_position >= coalesce(before.position, t.first)),
gone AS (DELETE FROM {{history}} AS h USING states AS s WHERE s.gone AND h.{{key}} = s.id AND h.from_position = s.from_position),
kept AS (
    SELECT id, from_position, coalesce(lead(from_position) OVER w, 9223372036854775807) AS until, lead(valid_from) OVER w AS at
      FROM states WHERE NOT gone WINDOW w AS (PARTITION BY id ORDER BY from_position))
UPDATE {{history}} AS h SET to_position = k.until, valid_to = k.at
  FROM kept AS k WHERE h.{{key}} = k.id AND h.from_position = k.from_position AND h.to_position <> k.until`

// memberSQL makes members what their last state says.
const memberSQL = `
INSERT INTO {{table}} ({{key}}, {{columns}}, listed, position, created_at, updated_at, placeholder)
SELECT t.id, {{last}}, last.listed, last.from_position, first.begun, last.valid_from, false
  FROM unnest($1::text[]) AS t (id)
 CROSS JOIN LATERAL (SELECT {{columns}}, listed, from_position, valid_from FROM {{history}} WHERE {{key}} = t.id ORDER BY from_position DESC LIMIT 1) AS last
 CROSS JOIN LATERAL (SELECT valid_from AS begun FROM {{history}} WHERE {{key}} = t.id ORDER BY from_position LIMIT 1) AS first
ON CONFLICT ({{key}}) DO UPDATE SET ({{columns}}, listed, position, created_at, updated_at, placeholder)
 = ROW ({{new}}, excluded.listed, excluded.position, excluded.created_at, excluded.updated_at, false)`

// foldHistory brings the history of members in order, and makes them what it says last.
func (s *Star) foldHistory(ctx context.Context, tx pgx.Tx, batch *projection.Batch, d Dimension, first map[string]int64) error {
	var columns, last, excluded []string
	for _, c := range s.members(d) {
		columns, last, excluded = append(columns, c.Name), append(last, "last."+c.Name), append(excluded, "excluded."+c.Name)
	}
	ids, positions := slices.Sorted(maps.Keys(first)), make([]int64, len(first))
	for i, id := range ids {
		positions[i] = first[id]
	}
	fill := func(sql string) string {
		return withTable(sql, "table", batch.Table(string(d)), "history", batch.Table(d.history()), "key", d.key(),
			"columns", strings.Join(columns, ", "), "last", strings.Join(last, ", "), "new", strings.Join(excluded, ", "))
	}
	if _, err := tx.Exec(ctx, fill(foldSQL), ids, positions); err != nil {
		return fmt.Errorf("ordering %s: %w", d.history(), err)
	}
	if _, err := tx.Exec(ctx, fill(memberSQL), ids); err != nil {
		return fmt.Errorf("writing %s: %w", d, err)
	}
	return nil
}

func keysOf(set map[string]bool) []string {
	return append([]string{}, slices.Sorted(maps.Keys(set))...)
}
