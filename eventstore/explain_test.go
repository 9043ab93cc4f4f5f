package eventstore_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// What a reader really sends is explained: each statement over events goes by an index of the leaves it needs, and
// touches no other leaf. Three months, 40,000 events.
func TestReadsUseIndexesOfTheirLeaves(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 31, 0, 0, 0, 0, time.UTC)
	log := newLog(t, eventstore.Config{Clock: func() time.Time { now = now.Add(10 * time.Minute); return now }, PageSize: 200})
	events := make([]any, 200)
	for i := range events {
		events[i] = eventstore.Event{Data: note{fmt.Sprint(i)}, Project: fmt.Sprintf("p%d", i%7)}
	}
	for i := range 200 { // from the last day of March into April, and then May
		if i == 160 {
			now = time.Date(2026, 5, 31, 0, 0, 0, 0, time.UTC)
		}
		log.append(t, eventstore.StreamID(fmt.Sprintf("a-%d", i)), eventstore.NoStream, events...)
	}
	log.exec(t, `ANALYZE {{schema}}.events`)
	log.exec(t, `ANALYZE {{schema}}.streams`)

	spy := &statementSpy{}
	config := log.Pool.Config().Copy()
	config.ConnConfig.Tracer = spy
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer pool.Close()
	store, err := eventstore.New(pool, eventstore.Config{Schema: log.Schema(), Codec: noteCodec(t), PageSize: 200})
	require.NoError(t, err)
	_, err = store.Append(t.Context(), "a-1", eventstore.NoStream, note{"conflict"})
	require.ErrorIs(t, err, eventstore.ErrConflict)

	for name, c := range map[string]struct {
		read          func() error
		index         string
		leaves, wrong []string
	}{
		"a stream":            {func() error { return firstError(store.Stream(t.Context(), "a-7", 3)) }, "_version_key", []string{"2026_03"}, []string{"2026_04", "2026_05"}},
		"a stream, backwards": {func() error { return firstError(store.Backward(t.Context(), "a-7", 90)) }, "_version_key", []string{"2026_03"}, []string{"2026_04", "2026_05"}},
		"the log":             {func() error { return firstError(store.All(t.Context(), 0, eventstore.Filter{})) }, "_position_key", []string{"2026_03", "2026_04", "2026_05"}, nil},
		"the log by type": {func() error {
			return firstError(store.All(t.Context(), 0, eventstore.Filter{Types: []string{"note"}}))
		}, "_position_key", []string{"2026_03", "2026_04", "2026_05"}, nil},
		"the log by recorded time": {func() error {
			return firstError(store.All(t.Context(), 0, eventstore.Filter{Recorded: eventstore.TimeRange{From: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)}}))
		}, "_position_key", []string{"2026_05"}, []string{"2026_03", "2026_04"}},
		"a transaction": {func() error {
			return pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return firstError(store.WithTx(tx).Stream(t.Context(), "a-7", 0)) })
		}, "_version_key", []string{"2026_03"}, []string{"2026_04", "2026_05"}},
		"a cursor": {func() error {
			seen := eventstoretest.Collect(t, log.Backward(t.Context(), "a-150", 0))[0]
			_, err := store.Resume(t.Context(), seen.Cursor())
			return err
		}, "_position_key", []string{"2026_04"}, []string{"2026_05"}},
	} {
		t.Run(name, func(t *testing.T) {
			spy.reset()
			require.NoError(t, c.read())
			statements := spy.overEvents()
			require.NotEmpty(t, statements)
			all := ""
			for _, s := range statements {
				plan := explain(t, pool, s)
				require.NotContains(t, plan, "Seq Scan", s.sql)
				require.Contains(t, plan, c.index, s.sql)
				all += plan
			}
			for _, leaf := range c.leaves {
				require.Contains(t, all, leaf)
			}
			for _, leaf := range c.wrong {
				require.NotContains(t, all, leaf)
			}
		})
	}
}

// statementSpy notes what is sent.
type statementSpy struct {
	mu   sync.Mutex
	seen []statement
}

type statement struct {
	sql  string
	args []any
}

func (s *statementSpy) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, statement{data.SQL, data.Args})
	return ctx
}

func (s *statementSpy) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (s *statementSpy) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = nil
}

// overEvents are the distinct statements that read events.
func (s *statementSpy) overEvents() (out []statement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := map[string]bool{}
	for _, one := range s.seen {
		if strings.Contains(one.sql, ".events") && !known[one.sql] {
			known[one.sql] = true
			out = append(out, one)
		}
	}
	return out
}

func explain(t *testing.T, pool *pgxpool.Pool, s statement) string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `EXPLAIN (COSTS OFF) `+s.sql, s.args...)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return strings.Join(lines, "\n") + "\n"
}
