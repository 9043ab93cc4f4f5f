package vectorsearch

import (
	"context"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"
)

// maxTextsAtOnce is up to how many hits are read with the vectors, in one statement.
const maxTextsAtOnce = 100

// searchAtOnce does all of a plain search by meaning in one round trip: it asks what the index held a moment ago would lead to,
// and looks in the same snapshot what it holds. Where that is not the same, or more is to be done, it returns nil.
func (x *Index) searchAtOnce(ctx context.Context, conn *pgx.Conn, q Query, vector *pgvector.HalfVector) (*Answer, error) {
	w := x.lastWorld()
	fetch := q.Offset + q.K
	lags := w != nil && slices.ContainsFunc(w.leaves, func(l leaf) bool { return l.last > w.upTo }) // of several shards: what is asked changes all the time
	if w == nil || lags || q.Ranking != ByMeaning || q.PerDiscussion > 0 || q.Context > 0 || fetch > maxTextsAtOnce {
		return nil, nil
	}
	st, choices := x.planned(q, w, vector, fetch)
	if st == nil {
		return nil, nil
	}
	batch := &pgx.Batch{}
	batch.Queue(beginSnapshot)
	x.queueLook(batch, q)
	batch.Queue(st.settings, st.values...)
	batch.Queue(st.sql, st.args...)
	batch.Queue(`ROLLBACK`)
	fresh, rows, err := readAtOnce(conn.SendBatch(ctx, batch))
	x.keepWorld(fresh) // nil after an error: a month may be gone
	if err != nil {
		return nil, err
	}
	again, _ := x.planned(q, fresh, vector, fetch)
	if again == nil || !reflect.DeepEqual(st, again) {
		return nil, nil
	}
	s := scopeOf(conn, fresh, q)
	answer := &Answer{AsOf: s.asOf, Complete: q.AsOf <= fresh.upTo && !fresh.parked && !fresh.behind, Hits: []Hit{}}
	if len(rows.note(&s, choices, fetch, answer)) > 0 {
		return nil, nil
	}
	answer.tellPath(choices, nil)
	for _, l := range s.discussed {
		answer.Months = append(answer.Months, l.month)
	}
	for i, c := range rows.found {
		if i >= q.Offset && (q.MinSimilarity == 0 || c.score >= q.MinSimilarity) {
			answer.Hits = append(answer.Hits, Hit{Turn: rows.turns[c.key()], Score: c.score, Similarity: c.similarity})
		}
	}
	return answer, nil
}

// planned is the statement for what an index holds; nil where the planner would have to be asked, or there is nothing to search.
func (x *Index) planned(q Query, w *world, vector *pgvector.HalfVector, fetch int) (*statement, []choice) {
	s := scopeOf(nil, w, q)
	choices, unsure := x.surely(q, &s)
	if len(choices) == 0 {
		return nil, nil
	}
	if len(unsure) > 0 {
		known := x.known(&s, unsure)
		if len(known) < len(unsure) {
			return nil, nil
		}
		x.decide(q, fetch, choices, known)
	}
	st := x.nearestSQL(q, &s, vector, fetch, choices, true)
	return &st, choices
}

func readAtOnce(results pgx.BatchResults) (w *world, found *nearestRows, err error) {
	defer func() { _ = results.Close() }()
	if _, err := results.Exec(); err != nil {
		return nil, nil, err
	}
	rows, err := results.Query()
	if err == nil {
		w, err = readWorld(rows)
	}
	if err == nil {
		_, err = results.Exec()
	}
	if err != nil {
		return nil, nil, err
	}
	if rows, err = results.Query(); err == nil {
		found, err = readNearest(rows, true)
	}
	if err == nil {
		err = results.Close()
	}
	if err != nil {
		return nil, nil, err
	}
	return w, found, nil
}

// lastWorld is what the index held when it was looked at last.
func (x *Index) lastWorld() *world {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.world
}

func (x *Index) keepWorld(w *world) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.world = w
}
