package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"
	pgxvector "github.com/pgvector/pgvector-go/pgx"

	"github.com/sight-platform/hindsight/vectorsearch"
)

// copyRaw copies the same rows into tables of the same layout, in batches as large.
func (b *bench) copyRaw(ctx context.Context) error {
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if err := pgxvector.RegisterTypes(ctx, conn.Conn()); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `CREATE SCHEMA raw`); err != nil {
		return err
	}
	var took time.Duration
	for _, table := range []string{"passages", "vectors"} {
		leaf := strings.ReplaceAll(b.leavesOf(ctx), "vectors", table)
		if _, err := conn.Exec(ctx, fmt.Sprintf(`CREATE TABLE raw.%s (LIKE %s INCLUDING ALL)`, table, leaf)); err != nil {
			return err
		}
		columns := "position, chunk, recorded_at, occurred_at, stream_id, event_type, project_id, persona_id, user_id, language, metadata"
		if table == "passages" {
			columns += ", version, word_count, body"
		} else {
			columns += ", hash, embedding"
		}
		rows, err := conn.Query(ctx, `SELECT `+columns+` FROM `+leaf+` ORDER BY position`)
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
		if err != nil {
			return err
		}
		started := time.Now()
		for part := range slices.Chunk(all, 5000) {
			if _, err := conn.CopyFrom(ctx, pgx.Identifier{"raw", table}, strings.Split(columns, ", "), pgx.CopyFromRows(part)); err != nil {
				return err
			}
		}
		took += time.Since(started)
	}
	ours, raw := float64(b.each)/b.indexed.Seconds(), float64(b.each)/took.Seconds()
	fmt.Printf("%-36s %8.0f/s %8.0f/s %7.2f %8s  %v\n", b.label("index.rate"), ours, raw, ours/raw, ">= 0.6", ours/raw >= 0.6)
	return nil
}

func (b *bench) leavesOf(ctx context.Context) string {
	if _, err := b.bytes(ctx); err != nil || len(b.leaves) == 0 {
		return ""
	}
	return b.leaves[0]
}

// question is what both sides are asked.
type question struct {
	name, persona string
	atMost        float64 // ratio; 0 is not promised
}

const (
	rounds = 9
	asked  = 40 // a round
	// chosenEf is what the package chooses for ten hits.
	chosenEf = 400
)

// ef is the ef_search of both sides.
//
//nolint:gochecknoglobals // a flag
var ef int

// side answers one question with the positions of the ten nearest.
type side func(ctx context.Context, vector []float32) ([]int64, error)

// compare times ours and the better of the raw ones in turn.
func (b *bench) compare(ctx context.Context, q question) error {
	ours := func(ctx context.Context, vector []float32) ([]int64, error) {
		filter := vectorsearch.Filter{}
		if q.persona != "" {
			filter.Personas = []string{q.persona}
		}
		answer, err := b.index.Search(ctx, vectorsearch.Query{Vector: vector, Filter: filter, EfSearch: ef})
		if err != nil {
			return nil, err
		}
		var positions []int64
		for _, h := range answer.Hits {
			positions = append(positions, int64(h.Position))
		}
		return positions, nil
	}
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if err := pgxvector.RegisterTypes(ctx, conn.Conn()); err != nil {
		return err
	}
	sides := []side{ours, b.raw(conn.Conn(), q, false)}
	if q.persona != "" {
		sides = append(sides, b.raw(conn.Conn(), q, true))
	}
	p50, recalls, err := b.interleave(ctx, sides, b.raw(conn.Conn(), q, true))
	if err != nil {
		return err
	}
	best := 1
	if len(sides) == 3 && (recalls[1] < 0.98 || p50[2] < p50[1]) {
		best = 2
	}
	promised, met := "-", "-"
	if q.atMost > 0 {
		promised, met = fmt.Sprintf("<= %.2f", q.atMost), fmt.Sprint(p50[0]/p50[best] <= q.atMost)
	}
	fmt.Printf("%-36s %8.2fms %8.2fms %7.2f %8s  %s  recall %.3f, raw %.3f (%s)\n", b.label(q.name), p50[0], p50[best], p50[0]/p50[best], promised, met,
		recalls[0], recalls[best], []string{"", "HNSW", "exact"}[best])
	return nil
}

// interleave asks the sides in turn. It returns the median of each round's median, in milliseconds, and the recall against the truth.
func (b *bench) interleave(ctx context.Context, sides []side, truth side) (p50, recalls []float64, err error) {
	medians, recalls := make([][]float64, len(sides)), make([]float64, len(sides))
	for round := range rounds {
		for i := range sides {
			s := (round + i) % len(sides)
			times := make([]float64, asked)
			for n := range asked {
				vector := b.embedder.Vector(uint64(10_000_000 + round*asked + n))
				started := time.Now()
				found, err := sides[s](ctx, vector)
				if err != nil {
					return nil, nil, err
				}
				times[n] = float64(time.Since(started)) / float64(time.Millisecond)
				if round > 0 {
					continue
				}
				exact, err := truth(ctx, vector)
				if err != nil {
					return nil, nil, err
				}
				recalls[s] += overlap(found, exact) / asked
			}
			slices.Sort(times)
			medians[s] = append(medians[s], times[asked/2])
		}
	}
	for s := range sides {
		slices.Sort(medians[s])
		p50 = append(p50, medians[s][rounds/2])
	}
	return p50, recalls, nil
}

func overlap(found, exact []int64) float64 {
	if len(exact) == 0 {
		return 1
	}
	n := 0
	for _, position := range exact {
		if slices.Contains(found, position) {
			n++
		}
	}
	return float64(n) / float64(len(exact))
}

// raw is the shortest SQL: settings and the statement in one round trip; each month's ten nearest, and the nearest of those with
// their texts.
func (b *bench) raw(conn *pgx.Conn, q question, exact bool) side {
	where, distance := "", "embedding <=> $1"
	if exact {
		distance = "(embedding <=> $1) + 0"
	}
	if q.persona != "" {
		where = " WHERE persona_id = '" + q.persona + "'"
	}
	var parts []string
	for _, leaf := range b.leaves {
		parts = append(parts, fmt.Sprintf(`(SELECT position, chunk, recorded_at, %s AS distance FROM %s%s ORDER BY distance LIMIT 10)`, distance, leaf, where))
	}
	sql := fmt.Sprintf(`SELECT p.position, p.stream_id, p.version, p.persona_id, p.occurred_at, p.body, v.distance
  FROM (SELECT * FROM (%s) AS u ORDER BY distance LIMIT 10) AS v JOIN %s.search_passages_v1 AS p ON p.position = v.position AND p.chunk = v.chunk AND p.recorded_at = v.recorded_at ORDER BY v.distance`,
		strings.Join(parts, " UNION ALL "), b.schema)
	return func(ctx context.Context, vector []float32) ([]int64, error) {
		batch := &pgx.Batch{}
		batch.Queue(fmt.Sprintf(`SELECT set_config('hnsw.ef_search', '%d', true), set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('jit', 'off', true)`, cmp.Or(ef, chosenEf)))
		batch.Queue(sql, pgvector.NewHalfVector(vector))
		results := conn.SendBatch(ctx, batch)
		defer func() { _ = results.Close() }()
		if _, err := results.Exec(); err != nil {
			return nil, err
		}
		rows, err := results.Query()
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, func(row pgx.CollectableRow) (int64, error) {
			var position, version int64
			var stream, persona, body string
			var occurred time.Time
			var distance float64
			err := row.Scan(&position, &stream, &version, &persona, &occurred, &body, &distance)
			return position, err
		})
	}
}
