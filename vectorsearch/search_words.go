package vectorsearch

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// BM25's parameters: how soon more of a word counts less, and how much long passages are held back.
const (
	bm25K1 = 1.2
	bm25B  = 0.75
)

// matching returns up to fetch candidates by BM25 over exactly what passes the filters: a filtered or earlier search ranks as one
// in a log that holds nothing else.
func (x *Index) matching(ctx context.Context, q Query, s *scope, fetch int, answer *Answer) ([]candidate, error) {
	if len(s.discussed) == 0 {
		return nil, nil
	}
	sql, a, err := x.wordsSQL(ctx, q, s, fetch)
	if err != nil {
		return nil, err
	}
	batch := &pgx.Batch{}
	batch.Queue(wordsSettings)
	batch.Queue(sql, a...)
	var found []candidate
	var seen int
	err = inBatch(s.conn.SendBatch(ctx, batch), func(rows pgx.Rows) error {
		var c candidate
		_, err := pgx.ForEachRow(rows, []any{(*int64)(&c.position), &c.chunk, &c.recordedAt, (*string)(&c.stream), &c.score, &seen}, func() error {
			score := c.score
			c.words = &score
			found = append(found, c)
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("searching by words: %w", err)
	}
	answer.Candidates += seen
	return found, nil
}

// wordsSettings undo what a search by vectors has set, and keep plans that know the words.
const wordsSettings = `SELECT set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_seqscan', 'on', true), set_config('enable_sort', 'on', true)`

// languagesOf are those that the query's words may be in. A word that is read in a language counts in passages of that language.
func languagesOf(q Query, s *scope) []string {
	if q.Language != "" {
		return []string{baseLanguage(q.Language)}
	}
	if len(q.Filter.Languages) > 0 {
		return q.Filter.Languages
	}
	var languages []string
	for _, l := range s.discussed {
		languages = append(languages, l.languages...)
	}
	slices.Sort(languages)
	return slices.Compact(languages)
}

func (x *Index) wordsSQL(ctx context.Context, q Query, s *scope, fetch int) (string, args, error) {
	var a args
	var lexemes, matches []string
	for _, language := range languagesOf(q, s) {
		without, term := "", "quote_literal(lexeme)"
		if language == "pl" {
			prefix, err := x.byPrefix(ctx, s.conn)
			if err != nil {
				return "", nil, err
			}
			if prefix { // a beginning stands for all forms of a word
				term = "quote_literal(left(lexeme, length(lexeme) - cut)) || CASE WHEN cut > 0 THEN ':*' ELSE '' END"
			}
			without = " WHERE lexeme <> ALL (" + a.add(polishStopWords()) + "::text[])"
		}
		matches = append(matches, fmt.Sprintf(`language = %[1]s AND words @@ (SELECT query FROM whole WHERE language = %[1]s)`, literal(language)))
		lexemes = append(lexemes, fmt.Sprintf(`SELECT %s AS language, %s AS term FROM unnest(tsvector_to_array(to_tsvector(%s::regconfig, %s))) AS lexeme, LATERAL (SELECT CASE WHEN length(lexeme) > 3 THEN least(4, length(lexeme) * 2 / 5) ELSE 0 END AS cut) AS c%s`,
			literal(language), term, x.configOf(language), a.add(q.Text)+"::text", without))
	}
	if len(lexemes) == 0 {
		lexemes, matches = []string{`SELECT NULL::text AS language, NULL::text AS term WHERE false`}, []string{"false"}
	}
	var documents, counted []string
	var rows, words int64
	for _, l := range s.discussed {
		where := s.where(l, &a)
		table := x.quote(x.leafName("passages", l.month))
		and := " WHERE "
		if where != "" {
			and = where + " AND "
			counted = append(counted, "SELECT count(*) AS rows, coalesce(sum(word_count), 0) AS words FROM "+table+where)
		} else {
			rows, words = rows+l.rows, words+l.words
		}
		documents = append(documents, "SELECT position, chunk, recorded_at, stream_id, language, word_count, words FROM "+table+and+"("+strings.Join(matches, " OR ")+")")
	}
	counted = append(counted, "SELECT "+a.add(rows)+"::bigint, "+a.add(words)+"::bigint")
	return fmt.Sprintf(wordsSQL, strings.Join(lexemes, " UNION "), strings.Join(documents, " UNION ALL "), strings.Join(counted, " UNION ALL "),
		a.add(harmonics()), bm25K1, bm25B, fetch), a, nil
}

// wordsSQL computes BM25. How often a passage has a word is read from ts_rank, which makes it of the sum of 1/n^2 up to that
// number: unlike unnesting tsvectors, it stays in C. Above pi^2/6 it is of several words with one beginning.
const wordsSQL = `
WITH lexemes AS MATERIALIZED (%[1]s),
     whole AS MATERIALIZED (SELECT language, string_agg(term, ' | ')::tsquery AS query FROM lexemes GROUP BY language),
     terms AS MATERIALIZED (SELECT row_number() OVER () AS term, language, term::tsquery AS query FROM lexemes),
     documents AS MATERIALIZED (%[2]s),
     corpus AS MATERIALIZED (SELECT sum(rows)::double precision AS rows, (sum(words) / greatest(sum(rows), 1))::double precision AS mean_words FROM (%[3]s) AS c (rows, words)),
     frequencies AS MATERIALIZED (
         SELECT d.position, d.chunk, d.recorded_at, d.stream_id, d.word_count, t.term,
                CASE WHEN r.sum < 1.645 THEN width_bucket(r.sum, %[4]s::double precision[])::double precision ELSE round(r.sum) END AS frequency
           FROM documents AS d JOIN terms AS t ON d.language = t.language AND d.words @@ t.query
          CROSS JOIN LATERAL (SELECT (ts_rank('{1,1,1,1}', d.words, t.query) * 1.64493406685)::double precision AS sum) AS r),
     weights AS MATERIALIZED (
         SELECT f.term, ln(1 + (c.rows - count(*) + 0.5) / (count(*) + 0.5)) AS weight FROM frequencies AS f CROSS JOIN corpus AS c GROUP BY f.term, c.rows)
SELECT f.position, f.chunk, min(f.recorded_at), min(f.stream_id),
       sum(w.weight * f.frequency * (%[5]v + 1) / (f.frequency + %[5]v * (1 - %[6]v + %[6]v * f.word_count / greatest(c.mean_words, 1))))::double precision AS score,
       (SELECT count(*) FROM documents)
  FROM frequencies AS f JOIN weights AS w USING (term) CROSS JOIN corpus AS c
 GROUP BY f.position, f.chunk
 ORDER BY score DESC, f.position, f.chunk
 LIMIT %[7]d`

// harmonics are the bounds between the sums of 1/n^2, up to as many times as ts_rank tells apart.
func harmonics() []float64 {
	const most = 100
	bounds := make([]float64, most)
	sum := 0.0
	for n := 1; n <= most; n++ {
		before := sum
		sum += 1 / float64(n*n)
		bounds[n-1] = (before + sum) / 2
	}
	return bounds
}

// byPrefix says whether Polish has no dictionary here.
func (x *Index) byPrefix(ctx context.Context, conn *pgx.Conn) (bool, error) {
	x.mu.Lock()
	known := x.prefix
	x.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	var ispell bool
	err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_ts_config_map m JOIN pg_ts_dict d ON d.oid = m.mapdict JOIN pg_ts_template t ON t.oid = d.dicttemplate
 WHERE m.mapcfg = $1::text::regconfig AND t.tmplname = 'ispell')`, x.quote(polish)).Scan(&ispell)
	if err != nil {
		return false, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	prefix := !ispell
	x.prefix = &prefix
	return prefix, nil
}
