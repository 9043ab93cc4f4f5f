package vectorsearch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
	"github.com/sight-platform/hindsight/projection"
)

// ErrModel is returned where the tables of a version hold vectors of another model, or passages of another recipe.
var ErrModel = errors.New("the index's tables were made by another model or recipe: raise Config.Version")

// check makes sure, once, that the tables are there and of this model.
func (x *Index) check(ctx context.Context) error {
	x.mu.Lock()
	ready := x.ready
	x.mu.Unlock()
	if ready {
		return nil
	}
	found, err := extension(ctx, x.store.Pool())
	if err != nil {
		return projection.Transient(err)
	}
	var model, revision, language string
	var dimensions, recipe int
	err = x.store.Pool().QueryRow(ctx, x.sql(`SELECT model, revision, dimensions, recipe, language FROM {{source}}`)).Scan(&model, &revision, &dimensions, &recipe, &language)
	switch {
	case pg.Code(err) == pg.UndefinedTable:
		return fmt.Errorf("%s: %w", x.config.Name, projection.ErrNotMigrated)
	case err != nil:
		return err
	case model != x.model.Name || revision != x.model.Revision || dimensions != x.model.Dimensions || recipe != x.config.Recipe.Version || language != baseLanguage(x.config.Language):
		return projection.Transient(fmt.Errorf("%w: version %d of %s is of %s %s with %d dimensions, recipe %d and language %s; this is %s %s with %d, %d and %s", ErrModel,
			x.config.Version, x.config.Name, model, revision, dimensions, recipe, language,
			x.model.Name, x.model.Revision, x.model.Dimensions, x.config.Recipe.Version, baseLanguage(x.config.Language)))
	}
	x.mu.Lock()
	x.ready, x.vector = true, found
	x.mu.Unlock()
	return nil
}

// leaf is a month of the index.
type leaf struct {
	month       time.Time
	first, last eventstore.Position
	rows, words int64
	hnsw        bool
	languages   []string
}

// world is what the index holds at a moment.
type world struct {
	leaves []leaf              // the newest first
	upTo   eventstore.Position // how far it has come
	parked bool                // an event that counts
	behind bool                // of AsOfTime
}

// look begins a snapshot and reads the months in it. It is read with the rest: what is committed later is not seen.
func (x *Index) look(ctx context.Context, conn *pgx.Conn, q Query) (*world, error) {
	batch := &pgx.Batch{}
	batch.Queue(beginSnapshot)
	x.queueLook(batch, q)
	var out *world
	err := inBatch(conn.SendBatch(ctx, batch), func(rows pgx.Rows) (err error) {
		out, err = readWorld(rows)
		return err
	})
	return out, err
}

func (x *Index) queueLook(batch *pgx.Batch, q Query) {
	var until *time.Time
	if !q.AsOfTime.IsZero() {
		until = &q.AsOfTime
	}
	batch.Queue(x.sql(lookSQL), x.config.Name, x.config.Version, int64(q.AsOf), until)
}

func readWorld(rows pgx.Rows) (*world, error) {
	out := &world{}
	var month *time.Time
	var first, last, count, words *int64
	var hnsw *bool
	var languages []string
	_, err := pgx.ForEachRow(rows, []any{(*int64)(&out.upTo), &out.parked, &out.behind, &month, &first, &last, &count, &words, &hnsw, &languages}, func() error {
		if month != nil {
			out.leaves = append(out.leaves, leaf{*month, eventstore.Position(*first), eventstore.Position(*last), *count, *words, *hnsw, append([]string{}, languages...)})
		}
		return nil
	})
	return out, err
}

const lookSQL = `
SELECT c.position, EXISTS (SELECT FROM {{schema}}.projection_parked p WHERE p.name = $1::text AND p.version = $2::integer AND ($3::bigint = 0 OR p.position <= $3::bigint)),
       $4::timestamptz IS NOT NULL AND EXISTS (SELECT FROM {{schema}}.events e WHERE e.position > c.position AND e.recorded_at <= $4::timestamptz),
       m.month, m.first_position, m.last_position, m.rows, m.words, m.hnsw, m.languages
  FROM (SELECT coalesce(min(position), 0) AS position FROM {{schema}}.checkpoints WHERE name = $1::text AND version = $2::integer) AS c
  LEFT JOIN {{months}} AS m ON m.rows > 0
 ORDER BY m.month DESC`

// scope is what a search looks through.
type scope struct {
	conn      *pgx.Conn // in the search's snapshot
	filter    Filter
	asOf      eventstore.Position
	recorded  time.Time
	without   eventstore.Position
	discussed []leaf
}

// scopeOf leaves out the months in which nothing can be.
func scopeOf(conn *pgx.Conn, w *world, q Query) scope {
	s := scope{conn: conn, filter: q.Filter, asOf: w.upTo, recorded: q.AsOfTime, without: q.Example}
	if q.AsOf > 0 {
		s.asOf = min(q.AsOf, w.upTo)
	}
	for _, l := range w.leaves {
		if l.first <= s.asOf && (s.recorded.IsZero() || !l.month.After(s.recorded)) {
			s.discussed = append(s.discussed, l)
		}
	}
	return s
}

// where is all that a row of a month must fulfil, with " WHERE " in front; "" where all of them do.
func (s *scope) where(l leaf, a *args) string {
	var terms []string
	if filter := s.filter.where(a); filter != "" {
		terms = append(terms, filter)
	}
	if l.last > s.asOf {
		terms = append(terms, "position <= "+a.add(int64(s.asOf))+"::bigint")
	}
	if !s.recorded.IsZero() && s.recorded.Before(l.month.AddDate(0, 1, 0)) {
		terms = append(terms, "recorded_at <= "+a.add(s.recorded)+"::timestamptz")
	}
	if s.without > 0 && s.without >= l.first && s.without <= l.last {
		terms = append(terms, "position <> "+a.add(int64(s.without))+"::bigint")
	}
	if len(terms) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(terms, " AND ")
}
