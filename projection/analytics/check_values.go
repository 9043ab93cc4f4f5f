package analytics

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/projection"
)

const (
	recentPositions = 1000 // of which the newest events are taken
	sampledEvents   = 100  // at most, of these, and as many from another place
	sampledRows     = 2000 // about, that these make
)

// wrongValue is a value that is not what Rows makes of the event.
type wrongValue struct {
	Position int64   `json:"position"`
	Column   string  `json:"column"`
	Stored   *string `json:"stored"`
	Made     *string `json:"made"`
}

// exactness holds a sample of a fact's rows, the newest and those from a place in the log, against what Rows makes of their
// events (A1). Rows that are missing are for completeness to see. Columns that AddColumn has filled are not compared.
func (s *Star) exactness(f Fact) func(context.Context, pgx.Tx) (Findings, error) {
	return func(ctx context.Context, tx pgx.Tx) (found Findings, err error) {
		at, err := s.places(ctx, tx)
		if err != nil {
			return found, err
		}
		recent := max(0, at.upTo-recentPositions)
		events, err := s.sampleEvents(ctx, f, at, recent, at.upTo, recentPositions)
		if err != nil {
			return found, err
		}
		events = events[max(0, len(events)-sampledEvents):]
		found.Note = fmt.Sprintf("the newest events after position %d", recent)
		if recent > 0 {
			place := eventstore.Position(rand.Int64N(int64(recent)))
			older, err := s.sampleEvents(ctx, f, at, place, min(recent, place+s.config.CheckWindow), sampledEvents)
			if err != nil {
				return found, err
			}
			events = append(events, older...)
			found.Note += fmt.Sprintf(", and events after position %d", place)
		}
		if err := s.compareValues(ctx, tx, f, events, &found); err != nil {
			return found, err
		}
		if found.Total == 0 {
			return found, fmt.Errorf("%w: there are no such rows: %s", ErrSkip, found.Note)
		}
		return found, nil
	}
}

// sampleEvents are the first ones after from, up to upTo. Those that are left out, or whose key was erased, are not among them.
func (s *Star) sampleEvents(ctx context.Context, f Fact, at places, from, upTo eventstore.Position, limit int) ([]eventstore.Recorded, error) {
	left := at.leftOut()
	var events []eventstore.Recorded
	for chunk, err := range s.events(ctx, f, from) {
		if err != nil {
			return nil, err
		}
		for _, stored := range chunk.Events {
			if len(events) == limit || stored.Position > upTo {
				return events, nil
			}
			if left[stored.Position] != "" {
				continue
			}
			e, err := s.store.Decode(ctx, stored)
			if errors.Is(err, eventstore.ErrCipher) && ctx.Err() == nil {
				continue
			}
			if err != nil {
				return nil, err
			}
			events = append(events, e)
		}
		if chunk.UpTo >= upTo {
			break
		}
	}
	return events, nil
}

// compareValues lets the server compare, which knows when two values of a type are the same: each as its type's text.
func (s *Star) compareValues(ctx context.Context, tx pgx.Tx, f Fact, events []eventstore.Recorded, found *Findings) error {
	sql, compared, err := s.valuesSQL(ctx, tx, f)
	if err != nil {
		return err
	}
	projects, err := s.projectsOf(ctx, tx, &projection.Batch{Events: events})
	if err != nil {
		return err
	}
	made := load{facts: map[string][][]any{}, years: map[int]bool{}, dirty: dirty{}, ids: map[Dimension]map[string]bool{Projects: {}, Users: {}, Personas: {}}}
	for _, e := range events {
		if len(made.facts[f.Name]) >= sampledRows {
			break
		}
		rows, err := f.Rows(e)
		if err == nil {
			err = made.add(f, e, rows, projects[e.StreamID])
		}
		if err != nil {
			return fmt.Errorf("event %d: %w", e.Position, err)
		}
	}
	found.Total = int64(len(made.facts[f.Name]))
	for _, values := range made.facts[f.Name] {
		args := []any{pgx.QueryExecModeDescribeExec} // only the server knows the types, also behind a pooler
		for _, column := range compared {
			args = append(args, values[column])
		}
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		wrong, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (wrongValue, error) {
			v := wrongValue{Position: values[0].(int64)}
			return v, row.Scan(&v.Column, &v.Stored, &v.Made)
		})
		if err != nil {
			return err
		}
		if len(wrong) > 0 {
			found.Failing++
		}
		for _, v := range wrong {
			found.Rows = append(found.Rows, v)
		}
	}
	return nil
}

// valuesSQL compares a row with values; it takes those of the fact's columns with the numbers compared.
func (s *Star) valuesSQL(ctx context.Context, tx pgx.Tx, f Fact) (sql string, compared []int, err error) {
	rows, err := tx.Query(ctx, `SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped`, s.table(f.Name))
	if err != nil {
		return "", nil, err
	}
	type column struct{ Name, Type string }
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	if err != nil {
		return "", nil, err
	}
	made, err := s.readDeclaration(ctx, tx)
	if err != nil {
		return "", nil, err
	}
	types := map[string]string{}
	for _, c := range columns {
		types[c.Name] = c.Type
	}
	var values []string
	line := ""
	for i, name := range f.columns() {
		if _, added := made.Added[f.Name+"."+name]; added {
			continue
		}
		compared = append(compared, i)
		switch n := len(compared); name {
		case "position": // the first
		case "line":
			line = fmt.Sprintf(" AND f.line = $%d::smallint", n)
		default:
			values = append(values, fmt.Sprintf("('%[1]s', f.%[1]s::text, ($%[2]d::%[3]s)::text)", name, n, types[name]))
		}
	}
	sql, err = sqlOf("check_values", "fact", s.table(f.Name), "line", line, "values", strings.Join(values, ",\n    "))
	return sql, compared, err
}
