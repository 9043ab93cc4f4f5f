package vectorsearch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
	"github.com/sight-platform/hindsight/projection"
)

// ErrNotIndexed is returned for an Example that the index has no passage of.
var ErrNotIndexed = errors.New("the index has no passage of the event")

// Search answers a query. Errors match [eventstore.ErrInvalid] for a query that cannot be answered, [ErrExtension], [ErrModel],
// [ErrNotIndexed] and [projection.ErrNotMigrated]; those of the embedder come as they are.
func (x *Index) Search(ctx context.Context, q Query) (*Answer, error) {
	started := time.Now()
	q = q.withDefaults()
	if err := q.validate(x.model); err != nil {
		return nil, err
	}
	if err := x.check(ctx); err != nil {
		return nil, err
	}
	vector, err := x.vectorOf(ctx, q)
	if err != nil {
		return nil, err
	}
	var answer *Answer
	for try := 0; try < 2; try++ { // a month that Maintain drops meanwhile is looked at no more
		answer, err = x.searchOnce(ctx, q, vector)
		if pg.Code(err) != pg.UndefinedTable {
			break
		}
	}
	if pg.Code(err) == pg.UndefinedTable {
		err = fmt.Errorf("%s: %w: %w", x.config.Name, projection.ErrNotMigrated, err)
	}
	if err != nil {
		return nil, err
	}
	answer.Took = time.Since(started)
	return answer, nil
}

// searchOnce looks, searches and reads the texts in one snapshot.
func (x *Index) searchOnce(ctx context.Context, q Query, vector *pgvector.HalfVector) (answer *Answer, err error) {
	err = x.onConn(ctx, func(conn *pgx.Conn) error {
		defer endSnapshot(ctx, conn)
		var err error
		if answer, err = x.searchAtOnce(ctx, conn, q, vector); err != nil || answer != nil {
			return err
		}
		w, err := x.look(ctx, conn, q)
		if err != nil {
			return err
		}
		x.keepWorld(w)
		s := scopeOf(conn, w, q)
		answer = &Answer{AsOf: s.asOf}
		for _, l := range s.discussed {
			answer.Months = append(answer.Months, l.month)
		}
		found, err := x.find(ctx, q, &s, vector, answer)
		if err != nil {
			return err
		}
		answer.Complete = answer.Complete && q.AsOf <= w.upTo && !w.parked && !w.behind
		answer.Hits, err = x.hydrate(ctx, q, &s, found)
		return err
	})
	return answer, err
}

// beginSnapshot goes before the first statement of a search, in its round trip.
const beginSnapshot = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`

// endSnapshot ends the transaction, whatever has become of it.
func endSnapshot(ctx context.Context, conn *pgx.Conn) {
	if conn.IsClosed() || conn.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	_, _ = conn.Exec(ctx, `ROLLBACK`) // it has only read
}

// vectorOf is the vector to search by; nil for a search by words.
func (x *Index) vectorOf(ctx context.Context, q Query) (*pgvector.HalfVector, error) {
	var vector pgvector.HalfVector
	switch {
	case q.Ranking == ByWords:
		return nil, nil
	case q.Text != "":
		texts := []string{q.Text}
		found, _, err := x.config.Embedder.Embed(ctx, texts)
		if err == nil {
			err = CheckVectors(x.model, texts, found)
		}
		if err != nil {
			return nil, fmt.Errorf("embedding the query by %s: %w", x.model.Name, err)
		}
		vector = pgvector.NewHalfVector(unit(found[0]))
	case len(q.Vector) > 0:
		vector = pgvector.NewHalfVector(unit(q.Vector))
	default:
		err := x.onConn(ctx, func(conn *pgx.Conn) error {
			return conn.QueryRow(ctx, x.sql(`SELECT embedding FROM {{vectors}} WHERE position = $1 ORDER BY chunk LIMIT 1`), int64(q.Example)).Scan(&vector)
		})
		if errors.Is(err, pgx.ErrNoRows) {
			err = fmt.Errorf("event %d: %w", q.Example, ErrNotIndexed)
		}
		if err != nil {
			return nil, err
		}
	}
	return &vector, nil
}

// onConn runs f on a connection that knows vectors.
func (x *Index) onConn(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := x.store.Pool().Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	x.register(conn.Conn())
	return f(conn.Conn())
}

// candidate is a passage on its way to be a hit.
type candidate struct {
	position   eventstore.Position
	chunk      int
	recordedAt time.Time
	stream     eventstore.StreamID
	similarity *float64
	words      *float64
	score      float64
}

type candidateKey struct {
	position eventstore.Position
	chunk    int
}

func (c candidate) key() candidateKey { return candidateKey{c.position, c.chunk} }

// byScore orders candidates, best first; equals by position, so that pages do not overlap.
func byScore(a, b candidate) int {
	return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.position, b.position), cmp.Compare(a.chunk, b.chunk))
}

const (
	// maxFetch bounds how many candidates are asked for.
	maxFetch = 20_000
	// fusionDepth is how many candidates of each part a fusion looks at: the same for all pages, so that they are of one order.
	// More are needed where few of a discussion count.
	fusionDepth, groupedFusionDepth = maxHybrid, 1000
)

// find returns the candidates of the page. Where too many hits of a discussion crowd the others out, it asks for more.
func (x *Index) find(ctx context.Context, q Query, s *scope, vector *pgvector.HalfVector, answer *Answer) ([]candidate, error) {
	want := q.Offset + q.K
	fetch, most := want, maxFetch
	switch {
	case q.Ranking == Hybrid && q.PerDiscussion > 0:
		fetch, most = groupedFusionDepth, groupedFusionDepth
	case q.Ranking == Hybrid:
		fetch = fusionDepth
	case q.PerDiscussion > 0:
		fetch *= 4
	}
	for {
		fetch = min(fetch, most)
		found, all, err := x.ranked(ctx, q, s, vector, fetch, answer)
		if err != nil {
			return nil, err
		}
		found = grouped(found, q.PerDiscussion)
		page := found[min(q.Offset, len(found)):min(want, len(found))]
		switch {
		case len(found) >= want || all || q.PerDiscussion == 0:
			return page, nil
		case fetch == most:
			answer.Complete = false
			return page, nil
		}
		fetch *= 8
	}
}

// grouped keeps at most n candidates of each discussion.
func grouped(found []candidate, n int) []candidate {
	if n == 0 {
		return found
	}
	seen := map[eventstore.StreamID]int{}
	return slices.DeleteFunc(found, func(c candidate) bool {
		seen[c.stream]++
		return seen[c.stream] > n
	})
}

// ranked returns up to fetch candidates by rank, and whether these are all there are.
func (x *Index) ranked(ctx context.Context, q Query, s *scope, vector *pgvector.HalfVector, fetch int, answer *Answer) (found []candidate, all bool, err error) {
	answer.Candidates, answer.Complete, answer.Path = 0, true, PathExact
	var byMeaning, byWords []candidate
	if q.Ranking != ByWords {
		if byMeaning, err = x.nearest(ctx, q, s, vector, fetch, answer); err != nil {
			return nil, false, err
		}
	}
	if q.Ranking != ByMeaning {
		if byWords, err = x.matching(ctx, q, s, fetch, answer); err != nil {
			return nil, false, err
		}
	}
	all = len(byMeaning) < fetch && len(byWords) < fetch
	switch q.Ranking {
	case ByMeaning:
		return byMeaning, all, nil
	case ByWords:
		answer.Path = PathWords
		return byWords, all, nil
	}
	return fuse(q.Fusion, byMeaning, byWords), all, nil
}

// fuse ranks by the weighted sum of reciprocal ranks.
func fuse(f Fusion, byMeaning, byWords []candidate) []candidate {
	at := map[candidateKey]int{}
	var fused []candidate
	add := func(list []candidate, weight float64) {
		if weight == 0 {
			return
		}
		for rank, c := range list {
			i, ok := at[c.key()]
			if !ok {
				i = len(fused)
				at[c.key()] = i
				c.score = 0
				fused = append(fused, c)
			}
			fused[i].score += weight / (f.K + float64(rank+1))
			fused[i].similarity = cmp.Or(fused[i].similarity, c.similarity)
			fused[i].words = cmp.Or(fused[i].words, c.words)
		}
	}
	add(byMeaning, f.Meaning)
	add(byWords, f.Words)
	slices.SortFunc(fused, byScore)
	return fused
}

// hydrate reads the texts of candidates, and what was said around them.
func (x *Index) hydrate(ctx context.Context, q Query, s *scope, found []candidate) ([]Hit, error) {
	if len(found) == 0 {
		return []Hit{}, nil
	}
	positions, chunkNumbers, times := make([]int64, len(found)), make([]int32, len(found)), make([]time.Time, len(found))
	for i, c := range found {
		positions[i], chunkNumbers[i], times[i] = int64(c.position), int32(c.chunk), c.recordedAt
	}
	rows, err := s.conn.Query(ctx, x.sql(`
SELECT `+turnColumns+`
  FROM unnest($1::bigint[], $2::integer[], $3::timestamptz[]) WITH ORDINALITY AS k (position, chunk, recorded_at, n)
  JOIN {{passages}} AS p ON p.position = k.position AND p.chunk = k.chunk AND p.recorded_at = k.recorded_at
 ORDER BY k.n`), positions, chunkNumbers, times)
	if err != nil {
		return nil, err
	}
	turns, err := pgx.CollectRows(rows, scanTurn)
	if err != nil {
		return nil, err
	}
	read := map[candidateKey]Turn{}
	for _, t := range turns {
		read[candidateKey{t.Position, t.Chunk}] = t
	}
	hits := make([]Hit, 0, len(found))
	for _, c := range found {
		hits = append(hits, Hit{Turn: read[c.key()], Score: c.score, Similarity: c.similarity, Words: c.words})
	}
	if q.Context > 0 {
		err = x.addContext(ctx, q.Context, s, hits)
	}
	return hits, err
}

const turnColumns = `p.position, p.chunk, p.stream_id, p.version, p.event_type, p.project_id, p.persona_id, p.user_id, p.language, p.occurred_at, p.recorded_at, p.body`

func scanTurn(row pgx.CollectableRow) (Turn, error) {
	t, err := pgx.RowToStructByPos[Turn](row)
	t.OccurredAt, t.RecordedAt = t.OccurredAt.UTC(), t.RecordedAt.UTC()
	return t, err
}

// addContext reads the passages around the hits, as of the same position.
func (x *Index) addContext(ctx context.Context, around int, s *scope, hits []Hit) error {
	streams, versions, own := make([]string, len(hits)), make([]int64, len(hits)), make([]int32, len(hits))
	for i, h := range hits {
		streams[i], versions[i], own[i] = string(h.StreamID), int64(h.Version), int32(h.Chunk)
	}
	var until *time.Time
	if !s.recorded.IsZero() {
		until = &s.recorded
	}
	rows, err := s.conn.Query(ctx, x.sql(`
SELECT k.n, `+turnColumns+`
  FROM unnest($1::text[], $2::bigint[], $3::integer[]) WITH ORDINALITY AS k (stream_id, version, chunk, n)
 CROSS JOIN LATERAL (
       (SELECT * FROM {{passages}} AS b WHERE b.stream_id = k.stream_id AND (b.version, b.chunk) < (k.version, k.chunk) AND b.position <= $5
           AND ($6::timestamptz IS NULL OR b.recorded_at <= $6) ORDER BY b.version DESC, b.chunk DESC LIMIT $4)
       UNION ALL
       (SELECT * FROM {{passages}} AS b WHERE b.stream_id = k.stream_id AND (b.version, b.chunk) > (k.version, k.chunk) AND b.position <= $5
           AND ($6::timestamptz IS NULL OR b.recorded_at <= $6) ORDER BY b.version, b.chunk LIMIT $4)) AS p
 ORDER BY k.n, p.version, p.chunk`), streams, versions, own, around, int64(s.asOf), until)
	if err != nil {
		return err
	}
	type neighbour struct {
		N int64
		Turn
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[neighbour])
	for _, f := range found {
		f.OccurredAt, f.RecordedAt = f.OccurredAt.UTC(), f.RecordedAt.UTC()
		hits[f.N-1].Context = append(hits[f.N-1].Context, f.Turn)
	}
	return err
}

// nullTurn scans a passage that may not be there.
type nullTurn struct {
	position, version                                    *int64
	chunk                                                *int
	stream, kind, project, persona, user, language, text *string
	occurredAt, recordedAt                               *time.Time
}

func (t *nullTurn) targets() []any {
	return []any{
		&t.position, &t.chunk, &t.stream, &t.version, &t.kind, &t.project, &t.persona, &t.user, &t.language, &t.occurredAt, &t.recordedAt, &t.text,
	}
}

func (t *nullTurn) turn() Turn {
	return Turn{
		Position: eventstore.Position(*t.position), Chunk: *t.chunk, StreamID: eventstore.StreamID(*t.stream), Version: eventstore.Version(*t.version), Type: *t.kind,
		Project: *t.project, Persona: *t.persona, User: *t.user, Language: *t.language, OccurredAt: t.occurredAt.UTC(), RecordedAt: t.recordedAt.UTC(), Text: *t.text,
	}
}
