package vectorsearch

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"
)

const (
	// exactRows is up to how many vectors of a month are simply compared: an HNSW index is not quicker, and not as good.
	exactRows = 10_000
	// What a comparison, a row that is only read, and a candidate of HNSW cost, beside each other (measured at 768 dimensions).
	costExact, costRead, costStep = 1.0, 0.3, 12.0
)

// choice is how a month is searched.
type choice struct {
	leaf
	exact bool
	scan  int // tuples that HNSW may look at
}

// choose decides for each month between comparing what passes the filters and HNSW.
func (x *Index) choose(ctx context.Context, q Query, s *scope, fetch int) ([]choice, error) {
	choices := make([]choice, len(s.discussed))
	var unsure []leaf
	for i, l := range s.discussed {
		choices[i] = choice{leaf: l, exact: q.Exact || !l.hnsw || l.rows <= exactRows}
		if !choices[i].exact && s.where(l, &args{}) != "" {
			unsure = append(unsure, l)
		}
	}
	if len(unsure) == 0 {
		return choices, nil
	}
	estimates, err := x.estimate(ctx, s, unsure)
	if err != nil {
		return nil, err
	}
	for i := range choices {
		c := &choices[i]
		e, ok := estimates[x.leafName("vectors", c.month)]
		if c.exact || !ok {
			continue
		}
		share := min(1, max(e.passing, 1)/float64(c.rows))
		steps := max(float64(x.ef(q, fetch)), float64(overFetch(fetch))/share)
		c.exact = e.passing*costExact+e.read*costRead <= steps*costStep
		c.scan = int(min(4*steps, float64(c.rows)))
	}
	return choices, nil
}

// overFetch is how many candidates are asked of HNSW, which gives them in about the right order.
func overFetch(fetch int) int { return fetch + fetch/2 + 10 }

// ef is how many candidates HNSW keeps in mind.
func (x *Index) ef(q Query, fetch int) int {
	if q.EfSearch > 0 {
		return q.EfSearch
	}
	return min(maxEf, max(320, 2*overFetch(fetch)))
}

// nearest returns up to fetch candidates by similarity.
func (x *Index) nearest(ctx context.Context, q Query, s *scope, vector *pgvector.HalfVector, fetch int, answer *Answer) ([]candidate, error) {
	choices, err := x.choose(ctx, q, s, fetch)
	if err != nil || len(choices) == 0 {
		return nil, err
	}
	found, short, err := x.compare(ctx, q, s, vector, fetch, choices, answer)
	if err != nil {
		return nil, err
	}
	if len(short) > 0 { // HNSW gave up before it had enough: few pass the filters
		more, _, err := x.compare(ctx, q, s, vector, fetch, short, answer)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	exact, approximate := 0, 0
	for _, c := range choices {
		if c.exact || slices.ContainsFunc(short, func(s choice) bool { return s.month.Equal(c.month) }) {
			exact++
		} else {
			approximate++
		}
	}
	switch {
	case approximate == 0:
		answer.Path = PathExact
	case exact == 0:
		answer.Path = PathHNSW
	default:
		answer.Path = PathMixed
	}
	answer.Complete = answer.Complete && approximate == 0
	found = slices.DeleteFunc(found, func(c candidate) bool {
		return c.position > s.asOf || q.MinSimilarity != 0 && c.score < q.MinSimilarity
	})
	slices.SortFunc(found, byScore)
	found = slices.CompactFunc(found, func(a, b candidate) bool { return a.key() == b.key() })
	return found[:min(fetch, len(found))], nil
}

// compare runs the choices in one statement. short are those in which HNSW found too little, to be compared exactly.
func (x *Index) compare(ctx context.Context, q Query, s *scope, vector *pgvector.HalfVector, fetch int, choices []choice, answer *Answer) (found []candidate, short []choice, err error) {
	a := args{*vector}
	distance := "embedding OPERATOR(" + x.extension().schema + ".<=>) $1"
	var parts []string
	scan := 0
	for i, c := range choices {
		table, where := x.quote(x.leafName("vectors", c.month)), s.where(c.leaf, &a)
		if c.exact { // + 0 keeps an HNSW index out
			parts = append(parts, fmt.Sprintf(`(SELECT *, count(*) OVER () AS seen, %d AS leaf FROM (SELECT position, chunk, recorded_at, stream_id, (%s) + 0 AS distance FROM %s%s OFFSET 0) AS d ORDER BY distance, position, chunk LIMIT %d)`,
				i, distance, table, where, fetch)) // OFFSET 0: the window must not carry the vectors
			continue
		}
		scan = max(scan, c.scan)
		parts = append(parts, fmt.Sprintf(`(SELECT position, chunk, recorded_at, stream_id, %[1]s AS distance, 1 AS seen, %[2]d AS leaf FROM %[3]s%[4]s ORDER BY %[1]s LIMIT %[5]d)`,
			distance, i, table, where, overFetch(fetch)))
	}
	batch := &pgx.Batch{}
	settings, values := x.settings(q, fetch, scan)
	batch.Queue(settings, values...)
	batch.Queue(strings.Join(parts, " UNION ALL "), a...)
	got, seen := make([]int, len(choices)), make([]int, len(choices))
	err = inBatch(s.conn.SendBatch(ctx, batch), func(rows pgx.Rows) error {
		var c candidate
		var distance float64
		var count, i int
		_, err = pgx.ForEachRow(rows, []any{(*int64)(&c.position), &c.chunk, &c.recordedAt, (*string)(&c.stream), &distance, &count, &i}, func() error {
			got[i]++
			seen[i] = max(count, got[i])
			if math.IsNaN(distance) {
				return nil
			}
			c.score = 1 - distance
			similarity := c.score
			c.similarity = &similarity
			found = append(found, c)
			return nil
		})
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("searching by meaning: %w", err)
	}
	for i, c := range choices {
		answer.Candidates += seen[i]
		if !c.exact && got[i] < overFetch(fetch) && int64(got[i]) < c.rows {
			c.exact = true
			short = append(short, c)
		}
	}
	return found, short, nil
}

// inBatch reads the rows of a statement that follows its settings.
func inBatch(results pgx.BatchResults, read func(pgx.Rows) error) error {
	defer func() { _ = results.Close() }()
	if _, err := results.Exec(); err != nil {
		return err
	}
	rows, err := results.Query()
	if err != nil {
		return err
	}
	if err := read(rows); err != nil {
		return err
	}
	return results.Close()
}

// planSettings keep what was chosen: a generic plan does not know the filter's values.
const planSettings = `SELECT set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true)`

// settings are those of the statement that follows in the same transaction.
func (x *Index) settings(q Query, fetch, scan int) (string, []any) {
	sql := planSettings + `, set_config('hnsw.ef_search', $1, true)`
	values := []any{strconv.Itoa(x.ef(q, fetch))}
	if x.extension().version.atLeast(0, 8, 0) {
		sql += `, set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.max_scan_tuples', $2, true), set_config('hnsw.scan_mem_multiplier', '4', true)`
		values = append(values, strconv.Itoa(max(20_000, scan)))
	}
	return sql, values
}

// extension is the one that check found.
func (x *Index) extension() vectorExtension {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.vector
}
