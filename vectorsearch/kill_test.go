package vectorsearch_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/devdb"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/vectorsearch"
)

// indexerVariable makes the test binary an indexer: the JSON of an indexerOrder.
const indexerVariable = "HINDSIGHT_TEST_INDEXER"

type indexerOrder struct{ URL, Schema string }

func TestMain(m *testing.M) {
	if order := os.Getenv(indexerVariable); order != "" {
		if err := indexAsChild(order); err != nil {
			fmt.Fprintln(os.Stderr, "indexer:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(onAServerOfItsOwn(m))
}

// onAServerOfItsOwn runs the tests past a database that others share: they make the extension, which changes what others make.
func onAServerOfItsOwn(m *testing.M) int {
	if os.Getenv("HINDSIGHT_DATABASE_URL") == "" {
		return m.Run()
	}
	server, err := devdb.StartCluster(context.Background(), nil)
	if err == nil {
		defer func() { _ = server.Close() }()
		err = errors.Join(os.Setenv("HINDSIGHT_DATABASE_URL", server.URL()), os.Setenv("HINDSIGHT_DATABASE_DIRECT_URL", server.URL()))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func indexAsChild(text string) error {
	var order indexerOrder
	if err := json.Unmarshal([]byte(text), &order); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	pool, err := pgxpool.New(ctx, order.URL)
	if err != nil {
		return err
	}
	defer pool.Close()
	store, err := eventstore.New(pool, eventstore.Config{Schema: order.Schema, Codec: focusgroup.Codec()})
	if err != nil {
		return err
	}
	index, err := vectorsearch.New(store, vectorsearch.Config{Embedder: &slowEmbedder{wordEmbedder{dimensions: 64}}})
	if err != nil {
		return err
	}
	runner, err := projection.New(store, killedConfig(index))
	if err != nil {
		return err
	}
	return runner.Run(ctx)
}

func killedConfig(index *vectorsearch.Index) projection.Config {
	return projection.Config{Projections: []projection.Projection{index}, Lease: time.Second, MaxBatch: killedBatch}
}

const killedBatch = 100

// slowEmbedder says on standard output what it was paid for, before it answers.
type slowEmbedder struct{ wordEmbedder }

func (e *slowEmbedder) Embed(ctx context.Context, texts []string) ([][]float32, vectorsearch.Usage, error) {
	fmt.Println(strings.Join(texts, "|"))
	time.Sleep(20 * time.Millisecond)
	return e.wordEmbedder.Embed(ctx, texts)
}

// Guarantees V1 and V2: an indexer that is killed again and again leaves each event embedded once, none missing, and pays again for
// no more than the batch in flight.
func TestKilledIndexersEmbedEachEventOnce(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	const turns = 1500
	for n := range turns / 50 {
		said := make([]string, 50)
		for i := range said {
			said[i] = fmt.Sprintf("turn number%d of many", n*50+i)
		}
		say(t, log, eventstore.StreamID(fmt.Sprintf("discussion-%d", n)), "p", "anna", said...)
	}
	index := newIndex(t, log, vectorsearch.Config{})
	runner, err := projection.New(log.Store, killedConfig(index))
	require.NoError(t, err)
	require.NoError(t, runner.Migrate(t.Context()))
	order, err := json.Marshal(indexerOrder{URL: log.Pool.Config().ConnString(), Schema: log.Schema()})
	require.NoError(t, err)
	paid := map[string]int{}
	const kills = 5
	for range kills {
		killAfterCalls(t, string(order), 5, paid)
	}
	advance(t, log, index)
	rows := 0
	require.NoError(t, log.Pool.QueryRow(t.Context(), `
SELECT count(*) FROM `+log.Schema()+`.search_passages p JOIN `+log.Schema()+`.search_vectors v USING (position, chunk)`).Scan(&rows))
	require.Equal(t, turns, rows, "each turn has one passage and one vector")
	require.NotEmpty(t, paid)
	again := 0
	for _, times := range paid {
		again += times - 1
	}
	require.LessOrEqual(t, again, kills*killedBatch, "only batches in flight are paid for again")
}

// killAfterCalls runs an indexer until it has called its embedder so many times, and kills it in the middle of that call.
func killAfterCalls(t *testing.T, order string, calls int, paid map[string]int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), indexerVariable+"="+order)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for n := 0; n < calls && lines.Scan(); n++ {
		for _, text := range strings.Split(lines.Text(), "|") {
			paid[text]++
		}
	}
	_ = cmd.Process.Kill()
	for lines.Scan() { // what it said before it died
		for _, text := range strings.Split(lines.Text(), "|") {
			paid[text]++
		}
	}
	_ = cmd.Wait()
}
