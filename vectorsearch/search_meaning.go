package vectorsearch

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"

	"github.com/sight-platform/hindsight/eventstore"
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
	scan  int  // tuples that HNSW may look at
	reads bool // the whole month, as no index has the filter
}

// counted says that an index has the filter's rows, as the planner was asked.
func (c choice) counted() bool { return c.exact && !c.reads && c.hnsw && c.rows > exactRows }

// surely decides what needs no estimate. unsure are the months that do.
func (x *Index) surely(q Query, s *scope) (choices []choice, unsure []leaf) {
	choices = make([]choice, len(s.discussed))
	for i, l := range s.discussed {
		choices[i] = choice{leaf: l, exact: q.Exact || !l.hnsw || l.rows <= exactRows}
		if !choices[i].exact && s.where(l, &args{}) != "" {
			unsure = append(unsure, l)
		}
	}
	return choices, unsure
}

// choose decides for each month between comparing what passes the filters and HNSW.
func (x *Index) choose(ctx context.Context, q Query, s *scope, fetch int) ([]choice, error) {
	choices, unsure := x.surely(q, s)
	if len(unsure) > 0 {
		estimates, err := x.estimate(ctx, s, unsure)
		if err != nil {
			return nil, err
		}
		x.decide(q, fetch, choices, estimates)
	}
	return choices, nil
}

// decide by the planner's estimates.
func (x *Index) decide(q Query, fetch int, choices []choice, estimates map[string]estimate) {
	for i := range choices {
		c := &choices[i]
		e, ok := estimates[x.leafName("vectors", c.month)]
		if c.exact || !ok {
			continue
		}
		share := min(1, max(e.passing, 1)/float64(c.rows))
		steps := max(float64(x.ef(q, fetch)), float64(overFetch(fetch))/share)
		c.exact = e.passing*costExact+e.read*costRead <= steps*costStep
		c.scan, c.reads = int(min(4*steps, float64(c.rows))), e.read > 0
	}
}

// overFetch is how many candidates are asked of HNSW, which gives them in about the right order.
func overFetch(fetch int) int { return fetch + fetch/2 + 10 }

// ef is how many candidates HNSW keeps in mind.
func (x *Index) ef(q Query, fetch int) int {
	if q.EfSearch > 0 {
		return q.EfSearch
	}
	return min(maxEf, max(400, 2*overFetch(fetch)))
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
	answer.tellPath(choices, short)
	found = slices.DeleteFunc(found, func(c candidate) bool {
		return c.position > s.asOf || q.MinSimilarity != 0 && c.score < q.MinSimilarity
	})
	slices.SortFunc(found, byScore)
	found = slices.CompactFunc(found, func(a, b candidate) bool { return a.key() == b.key() })
	return found[:min(fetch, len(found))], nil
}

// tellPath says how the choices were searched; short were compared after all.
func (a *Answer) tellPath(choices, short []choice) {
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
		a.Path = PathExact
	case exact == 0:
		a.Path = PathHNSW
	default:
		a.Path = PathMixed
	}
	a.Complete = a.Complete && approximate == 0
}

// statement is what a search by meaning asks the database.
type statement struct {
	settings string
	values   []any
	sql      string
	args     args
}

// nearestSQL searches the choices in one statement, and reads the texts too where texts are wanted of all.
func (x *Index) nearestSQL(q Query, s *scope, vector *pgvector.HalfVector, fetch int, choices []choice, withTexts bool) statement {
	st := statement{args: args{*vector}}
	distance := "embedding OPERATOR(" + x.extension().schema + ".<=>) $1"
	var parts []string
	for i, c := range choices {
		table, where := x.quote(x.leafName("vectors", c.month)), s.where(c.leaf, &st.args)
		if c.exact { // + 0 keeps an HNSW index out, OFFSET 0 the vectors out of the window
			seen := "0" // all of them
			switch {
			case where == "":
			case c.counted(): // by an index, which is quicker than a window
				seen = "(SELECT count(*) FROM " + table + s.where(c.leaf, &st.args) + ")"
			default:
				seen = "count(*) OVER ()"
			}
			parts = append(parts, fmt.Sprintf(`(SELECT *, %s AS seen, %d AS leaf FROM (SELECT position, chunk, recorded_at, stream_id, (%s) + 0 AS distance FROM %s%s OFFSET 0) AS d ORDER BY distance, position, chunk LIMIT %d)`,
				seen, i, distance, table, where, fetch))
			continue
		}
		parts = append(parts, fmt.Sprintf(`(SELECT position, chunk, recorded_at, stream_id, %[1]s AS distance, 1 AS seen, %[2]d AS leaf FROM %[3]s%[4]s ORDER BY %[1]s LIMIT %[5]d)`,
			distance, i, table, where, overFetch(fetch)))
	}
	texts, columns, open := "", "", ""
	if withTexts {
		open, texts = "(", x.sql(" JOIN {{passages}} AS p ON p.position = d.position AND p.chunk = d.chunk AND p.recorded_at = d.recorded_at)")
		columns = ", " + turnColumns
	}
	st.sql = fmt.Sprintf(nearestSQL, strings.Join(parts, " UNION ALL "), len(choices)-1, columns, fetch, open, texts)
	st.settings, st.values = x.settings(q, fetch, choices)
	return st
}

// nearestSQL gives the nearest of all months; in its first row, how many rows came of each month and how many were compared, also
// where none did.
const nearestSQL = `
WITH u AS MATERIALIZED (%[1]s)
SELECT c.got, c.seen, d.position, d.chunk, d.recorded_at, d.stream_id, d.distance%[3]s
  FROM (SELECT array_agg(coalesce(g.got, 0) ORDER BY n) AS got, array_agg(greatest(g.got, g.seen, 0) ORDER BY n) AS seen
          FROM generate_series(0, %[2]d) AS n LEFT JOIN (SELECT leaf, count(*) AS got, max(seen) AS seen FROM u GROUP BY leaf) AS g ON g.leaf = n) AS c
  LEFT JOIN %[5]s(SELECT * FROM u WHERE distance <> 'NaN' ORDER BY distance, position, chunk LIMIT %[4]d) AS d%[6]s ON true
 ORDER BY d.distance, d.position, d.chunk`

// nearestRows is what a statement has found.
type nearestRows struct {
	found     []candidate
	turns     map[candidateKey]Turn
	got, seen []int32
}

func readNearest(rows pgx.Rows, withTexts bool) (*nearestRows, error) {
	out := &nearestRows{turns: map[candidateKey]Turn{}}
	var position *int64
	var chunk *int
	var recordedAt *time.Time
	var stream *string
	var distance *float64
	var t nullTurn
	targets := []any{&out.got, &out.seen, &position, &chunk, &recordedAt, &stream, &distance}
	if withTexts {
		targets = append(targets, t.targets()...)
	}
	_, err := pgx.ForEachRow(rows, targets, func() error {
		if position == nil {
			return nil
		}
		similarity := 1 - *distance
		c := candidate{position: eventstore.Position(*position), chunk: *chunk, recordedAt: *recordedAt, stream: eventstore.StreamID(*stream), score: similarity, similarity: &similarity}
		out.found = append(out.found, c)
		if withTexts {
			out.turns[c.key()] = t.turn()
		}
		return nil
	})
	return out, err
}

// compare runs the choices. short are those in which HNSW found too little, to be compared exactly.
func (x *Index) compare(ctx context.Context, q Query, s *scope, vector *pgvector.HalfVector, fetch int, choices []choice, answer *Answer) (found []candidate, short []choice, err error) {
	st := x.nearestSQL(q, s, vector, fetch, choices, false)
	batch := &pgx.Batch{}
	batch.Queue(st.settings, st.values...)
	batch.Queue(st.sql, st.args...)
	var out *nearestRows
	err = inBatch(s.conn.SendBatch(ctx, batch), func(rows pgx.Rows) error {
		out, err = readNearest(rows, false)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("searching by meaning: %w", err)
	}
	return out.found, out.note(s, choices, fetch, answer), nil
}

// note adds what was compared to the answer, and returns the months in which HNSW gave up before it had enough.
func (r *nearestRows) note(s *scope, choices []choice, fetch int, answer *Answer) (short []choice) {
	for i, c := range choices {
		if c.exact && s.where(c.leaf, &args{}) == "" {
			answer.Candidates += int(c.rows)
		} else {
			answer.Candidates += int(r.seen[i])
		}
		if !c.exact && int(r.got[i]) < overFetch(fetch) && int64(r.got[i]) < c.rows {
			c.exact = true
			short = append(short, c)
		}
	}
	return short
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
	if err := rows.Err(); err != nil {
		return err
	}
	return results.Close()
}

// settings are those of the statement that follows in the same transaction. They leave the planner what was chosen: HNSW where an
// order is not sorted for, an index by the filter where the month is not to be read. So one plan serves all values.
func (x *Index) settings(q Query, fetch int, choices []choice) (string, []any) {
	scan, plan := 20_000, "force_generic_plan"
	seqscan, sort := "off", "on"
	for _, c := range choices {
		switch {
		case !c.exact:
			scan, sort = max(scan, c.scan), "off"
		case !c.counted(): // nothing was estimated, or the month is to be read
			seqscan, plan = "on", "force_custom_plan"
		}
	}
	sql := `SELECT set_config('jit', 'off', true), set_config('plan_cache_mode', $1, true), set_config('enable_seqscan', $2, true), set_config('enable_sort', $3, true), set_config('hnsw.ef_search', $4, true)`
	values := []any{plan, seqscan, sort, strconv.Itoa(x.ef(q, fetch))}
	if x.extension().version.atLeast(0, 8, 0) {
		sql += `, set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.max_scan_tuples', $5, true), set_config('hnsw.scan_mem_multiplier', '4', true)`
		values = append(values, strconv.Itoa(scan))
	}
	return sql, values
}

// extension is the one that check found.
func (x *Index) extension() vectorExtension {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.vector
}
