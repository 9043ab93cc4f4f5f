package vectorsearch_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/clustered"
	"github.com/sight-platform/hindsight/internal/devdb"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/vectorsearch"
)

// fillMonths imports so many turns in each of the months before the present one.
func fillMonths(t testing.TB, log *eventstoretest.Log, months, each int) {
	t.Helper()
	_, err := log.Import(t.Context(), clustered.Turns(months, each), eventstore.ImportConfig{})
	require.NoError(t, err)
}

// Guarantees V4 and V6, and the recall of HNSW by selectivity: a build that is interrupted is made again, and writers pass all the while.
func TestHNSWFindsWhatComparingFinds(t *testing.T) {
	t.Parallel()
	log := inSessions(t, newLog(t))
	const each = 12_000
	fillMonths(t, log, 2, each)
	embedder := clustered.New(128, 60)
	index := newIndex(t, log, vectorsearch.Config{Embedder: embedder})
	advance(t, log, index)
	interruptBuild(t, log, index)
	written := 0
	done, err := index.Maintain(t.Context(), func(p vectorsearch.Progress) {
		if strings.HasPrefix(p.Phase, "building") {
			written++
			writeToMonth(t, log, p.Month)
		}
	})
	require.NoError(t, err)
	require.Len(t, done.Built, 2)
	require.Positive(t, written)
	again, err := index.Maintain(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, again)

	for persona, path := range map[string]vectorsearch.Path{"": vectorsearch.PathHNSW, clustered.Tenth: "", clustered.Hundredth: vectorsearch.PathExact, clustered.Thousandth: vectorsearch.PathExact} {
		filter := vectorsearch.Filter{}
		if persona != "" {
			filter.Personas = []string{persona}
		}
		recall := recallOf(t, index, embedder, filter, path)
		t.Logf("%q: recall %.3f", persona, recall)
		require.GreaterOrEqual(t, recall, 0.98, persona)
	}
	measured, err := index.Measure(t.Context(), vectorsearch.MeasureConfig{Sample: 10})
	require.NoError(t, err)
	searches := 0
	for _, m := range measured {
		searches += m.Searches
		require.GreaterOrEqual(t, m.Recall(), 0.98)
		require.LessOrEqual(t, m.Found, m.Wanted)
	}
	require.Equal(t, 30, searches, "no filter, the discussion, the persona; there is no project")
	require.Equal(t, 10, measured[0].ByHNSW+measured[1].ByHNSW-tenths(measured), "those without a filter")
}

// inSessions is the same log past a pooler: Maintain needs connections that are sessions.
func inSessions(t *testing.T, log *eventstoretest.Log) *eventstoretest.Log {
	t.Helper()
	database, err := devdb.Shared(t.Context())
	require.NoError(t, err)
	pool := eventstoretest.Pool(t, database.DirectURL)
	store, err := eventstore.New(pool, eventstore.Config{Schema: log.Schema(), Codec: focusgroup.Codec()})
	require.NoError(t, err)
	return &eventstoretest.Log{Store: store, Pool: pool}
}

// tenths are searches by HNSW that had a filter.
func tenths(measured []vectorsearch.Recall) int {
	return max(0, measured[0].ByHNSW+measured[1].ByHNSW-10)
}

// interruptBuild begins to build and gives up.
func interruptBuild(t *testing.T, log *eventstoretest.Log, index *vectorsearch.Index) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	_, err := index.Maintain(ctx, func(p vectorsearch.Progress) {
		if strings.HasPrefix(p.Phase, "building") {
			stop()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Eventually(t, func() bool { // the server notices
		var building bool
		require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_progress_create_index)`).Scan(&building))
		return !building
	}, 30*time.Second, 50*time.Millisecond)
	var invalid int
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE NOT i.indisvalid AND c.relnamespace = $1::text::regnamespace`,
		log.Schema()).Scan(&invalid))
	require.Equal(t, 1, invalid, "the test interrupts a build")
}

// writeToMonth adds a row to a month's vectors, as an indexer that catches up would.
func writeToMonth(t *testing.T, log *eventstoretest.Log, month time.Time) {
	t.Helper()
	_, err := log.Pool.Exec(t.Context(), `
DO $$
BEGIN
    PERFORM set_config('lock_timeout', '500ms', true);
    INSERT INTO `+log.Schema()+`.search_vectors_v1 SELECT position, (SELECT max(chunk) FROM `+log.Schema()+`.search_vectors_v1) + 1, recorded_at, occurred_at, stream_id, event_type, project_id, persona_id, user_id, language, metadata, hash, embedding
      FROM `+log.Schema()+`.search_vectors_v1 WHERE recorded_at >= '`+month.Format(time.RFC3339)+`' ORDER BY recorded_at LIMIT 1;
    DELETE FROM `+log.Schema()+`.search_vectors_v1 WHERE chunk > 1;
END $$`)
	require.NoError(t, err)
}

// recallOf is the share of the exact answers to 40 queries that the package's choice finds.
func recallOf(t *testing.T, index *vectorsearch.Index, embedder *clustered.Embedder, filter vectorsearch.Filter, path vectorsearch.Path) float64 {
	t.Helper()
	found, wanted := 0, 0
	for n := range 40 {
		query := vectorsearch.Query{Vector: embedder.Vector(uint64(1_000_000 + n)), Filter: filter}
		answer, err := index.Search(t.Context(), query)
		require.NoError(t, err)
		if path != "" {
			require.Equal(t, path, answer.Path, "%v", filter)
		}
		require.Equal(t, answer.Path == vectorsearch.PathExact, answer.Complete)
		query.Exact = true
		exact, err := index.Search(t.Context(), query)
		require.NoError(t, err)
		require.True(t, exact.Complete)
		require.Len(t, exact.Hits, 10)
		wanted += 10
		for _, h := range answer.Hits {
			if slices.ContainsFunc(exact.Hits, func(e vectorsearch.Hit) bool { return e.Position == h.Position }) {
				found++
			}
		}
	}
	return float64(found) / float64(wanted)
}

func TestMonthsOutliveTheLogAndAreDroppedByTheirOwnRule(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	fillMonths(t, log, 4, 20)
	embedder := clustered.New(16, 4)
	index := newIndex(t, log, vectorsearch.Config{Embedder: embedder})
	advance(t, log, index)
	answer, err := index.Search(t.Context(), vectorsearch.Query{Vector: embedder.Vector(1), K: 100})
	require.NoError(t, err)
	require.Len(t, answer.Months, 4)
	require.Len(t, answer.Hits, 80)
	done, err := index.Maintain(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, done, "all are kept, and none is worth an HNSW index")

	keeping := newIndex(t, log, vectorsearch.Config{Embedder: embedder, KeepMonths: 2})
	done, err = keeping.Maintain(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, done.Dropped, 2)
	answer, err = index.Search(t.Context(), vectorsearch.Query{Vector: embedder.Vector(1), K: 100})
	require.NoError(t, err)
	require.Len(t, answer.Months, 2)
	require.Len(t, answer.Hits, 40)
}

// The parts of a search use their indexes: none reads a whole table.
func TestSearchesUseTheirIndexes(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	fillMonths(t, log, 1, 3000)
	index := newIndex(t, log, vectorsearch.Config{Embedder: clustered.New(64, 8)})
	advance(t, log, index)
	// Not of the whole database: it would wait for the builds of other tests, and they for it.
	_, err := log.Pool.Exec(t.Context(), `ANALYZE `+log.Schema()+`.search_passages_v1; ANALYZE `+log.Schema()+`.search_vectors_v1`)
	require.NoError(t, err)
	for name, sql := range map[string]string{
		"words":      `SELECT position FROM {{passages}} WHERE words @@ 'turn17 | 1717'::tsquery`,
		"persona":    `SELECT position FROM {{vectors}} WHERE persona_id = 'one-in-1000'`,
		"discussion": `SELECT position FROM {{vectors}} WHERE stream_id = 'discussion-0-3'`,
		"context":    `SELECT body FROM {{passages}} WHERE stream_id = 'discussion-0-3' AND (version, chunk) > (7, 1) ORDER BY version, chunk LIMIT 2`,
		"hashes":     `SELECT embedding FROM {{vectors}} WHERE hash = ANY ('{0a3b1f9c-0000-0000-0000-000000000000}'::uuid[])`,
		"hydrate":    `SELECT body FROM {{passages}} WHERE position = 17 AND chunk = 1 AND recorded_at = (SELECT max(recorded_at) FROM {{vectors}} WHERE position = 17)`,
	} {
		rows, err := log.Pool.Query(t.Context(), `EXPLAIN `+strings.NewReplacer("{{passages}}", log.Schema()+".search_passages", "{{vectors}}", log.Schema()+".search_vectors").Replace(sql))
		require.NoError(t, err)
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.NotContains(t, strings.Join(plan, "\n"), "Seq Scan", "%s: %s", name, strings.Join(plan, "\n"))
	}
}

// A role with the rights of a worker indexes, makes months too, and searches.
func TestGrant(t *testing.T) {
	t.Parallel()
	const role = "indexer"
	pool := eventstoretest.Pool(t, startServer(t).URL())
	store, err := eventstore.New(pool, eventstore.Config{Codec: focusgroup.Codec()})
	require.NoError(t, err)
	log := &eventstoretest.Log{Store: store, Pool: pool}
	require.NoError(t, log.Migrate(t.Context()))
	_, err = pool.Exec(t.Context(), `CREATE ROLE indexer LOGIN PASSWORD 'secret'`)
	require.NoError(t, err)
	say(t, log, "discussion-1", "p", "anna", "one", "two")
	index := newIndex(t, log, vectorsearch.Config{})
	require.ErrorIs(t, index.Grant(t.Context(), role), projection.ErrNotMigrated)
	runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{index}})
	require.NoError(t, err)
	require.NoError(t, runner.Migrate(t.Context()))
	require.NoError(t, log.Grant(t.Context(), role, eventstore.Reader))
	require.NoError(t, runner.Grant(t.Context(), role))
	require.NoError(t, index.Grant(t.Context(), role))

	pool = eventstoretest.Pool(t, log.Pool.Config().ConnString(), func(c *pgxpool.Config) { c.ConnConfig.User, c.ConnConfig.Password = role, "secret" })
	store, err = eventstore.New(pool, eventstore.Config{Codec: focusgroup.Codec()})
	require.NoError(t, err)
	worker := newIndex(t, &eventstoretest.Log{Store: store, Pool: pool}, vectorsearch.Config{})
	advance(t, &eventstoretest.Log{Store: store, Pool: pool}, worker)
	answer, err := worker.Search(t.Context(), vectorsearch.Query{Text: "two"})
	require.NoError(t, err)
	require.Len(t, answer.Hits, 2)
}
