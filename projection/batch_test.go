package projection_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/projection"
)

// Batches grow while they are quick, up to MaxBatch, and hold no more than some megabytes.
func TestBatchesAdaptToRowsAndBytes(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	texts := make([]string, 1000)
	for i := range texts {
		texts[i] = "short"
	}
	var last eventstore.Receipt
	for i := range 5 {
		last = appendTo(t, log, fmt.Sprintf("a-%d", i), texts...)
	}
	var mu sync.Mutex
	var sizes []int
	config := quick(&tally{})
	config.MaxBatch = 1500
	config.Lease = time.Minute // no batch takes long beside it
	config.Hooks.Batch = func(info projection.BatchInfo) {
		mu.Lock()
		defer mu.Unlock()
		sizes = append(sizes, info.Events)
	}
	runner := newRunner(t, log, config)
	running(t, runner)
	waitFor(t, runner, "tally", last.Position())
	mu.Lock()
	require.Equal(t, []int{200, 400}, sizes[:2])
	require.Greater(t, slices.Max(sizes), 400)
	require.LessOrEqual(t, slices.Max(sizes), 1500)
	sizes = nil
	mu.Unlock()

	big := strings.Repeat("x", 900_000)
	for range 4 {
		last = appendTo(t, log, "b-1", big, big, big, big, big)
	}
	require.NoError(t, runner.Pause(t.Context(), "tally", "so that they come together"))
	require.NoError(t, runner.Reset(t.Context(), "tally"))
	require.NoError(t, runner.Resume(t.Context(), "tally"))
	waitFor(t, runner, "tally", last.Position())
	requireFold(t, log, "tally")
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, 9, sizes[len(sizes)-2], "8 MB hold nine of them: %v", sizes)
	require.LessOrEqual(t, sizes[len(sizes)-1], 9, "%v", sizes)
}

// prepares does outside work before its transaction.
type prepares struct {
	tally
	calls atomic.Int64
}

func (p *prepares) Prepare(_ context.Context, batch *projection.Batch) error {
	if p.calls.Add(1) == 1 {
		return projection.Transient(errors.New("the model does not answer"))
	}
	var shouted []string
	for _, e := range batch.Events {
		if e.Data.(note).Text == "unspeakable" {
			return errors.New("the model refuses")
		}
		shouted = append(shouted, strings.ToUpper(e.Data.(note).Text))
	}
	batch.Prepared = shouted
	return nil
}

func (p *prepares) Apply(ctx context.Context, tx pgx.Tx, batch *projection.Batch) error {
	for i := range batch.Events {
		n := batch.Events[i].Data.(note)
		n.Text += "/" + batch.Prepared.([]string)[i]
		batch.Events[i].Data = n
	}
	return p.tally.Apply(ctx, tx, batch)
}

func TestPrepareRunsBeforeTheTransaction(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	p := &prepares{}
	runner := newRunner(t, log, quick(p))
	running(t, runner)
	appendTo(t, log, "a-1", "hello")
	bad := appendTo(t, log, "b-1", "unspeakable")
	last := appendTo(t, log, "a-1", "there")
	waitFor(t, runner, "tally", last.Position())
	var texts []string
	for _, row := range tallied(t, log.Pool, log.Schema(), "tally") {
		texts = append(texts, row.Text)
	}
	require.Equal(t, []string{"hello/HELLO", "there/THERE"}, texts)
	parked, err := runner.Parked(t.Context(), "tally", 10)
	require.NoError(t, err)
	require.Len(t, parked, 1)
	require.Equal(t, bad.Position(), parked[0].Position)
	require.Equal(t, "the model refuses", parked[0].Error)
}

// lists writes columns of many types by Upsert, lists among them.
type lists struct{}

func (lists) Spec() projection.Spec {
	return projection.Spec{Name: "lists", Tables: []projection.Table{{
		Name: "lists", SQL: `CREATE TABLE {{table}} (stream text PRIMARY KEY, words text[], sizes integer[], seen timestamptz, doc jsonb)`,
	}}}
}

func (lists) Apply(ctx context.Context, tx pgx.Tx, batch *projection.Batch) error {
	var rows [][]any
	for _, e := range batch.Events {
		words := strings.Fields(e.Data.(note).Text)
		sizes := make([]int, len(words))
		for i, word := range words {
			sizes[i] = len(word)
		}
		rows = append(rows, []any{string(e.StreamID), words, sizes, e.RecordedAt, `{"n": 1}`})
	}
	return batch.Upsert(ctx, tx, "lists", []string{"stream", "words", "sizes", "seen", "doc"}, []string{"stream"}, rows)
}

func TestUpsertWritesLists(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	runner := newRunner(t, log, quick(lists{}))
	running(t, runner)
	appendTo(t, log, "a-1", "one", "the green lid")
	last := appendTo(t, log, "b-1", "")
	waitFor(t, runner, "lists", last.Position())
	rows, err := log.Pool.Query(t.Context(), `SELECT words, sizes FROM `+log.Schema()+`.lists ORDER BY stream`)
	require.NoError(t, err)
	type row struct {
		Words []string
		Sizes []int
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	require.NoError(t, err)
	require.Equal(t, []row{{[]string{"the", "green", "lid"}, []int{3, 5, 3}}, {[]string{}, []int{}}}, found)
}
