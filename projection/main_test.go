package projection_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/projection"
)

// note is the payload of these tests.
type note struct {
	Text string `json:"text"`
}

func noteCodec() *eventstore.Codec {
	codec, err := eventstore.NewCodec(eventstore.Type[note]("note"))
	if err != nil {
		panic(err)
	}
	return codec
}

func testContext(t testing.TB, timeout time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	return ctx
}

func newLog(t testing.TB) *eventstoretest.Log {
	t.Helper()
	return eventstoretest.New(t, eventstore.Config{Codec: noteCodec()})
}

// tally writes a row for each event it is given, without a unique index, and counts by stream: an event that is applied
// twice, left out or out of order shows.
type tally struct {
	spec  projection.Spec
	fails func(eventstore.Recorded) error // may be nil
	after func(ctx context.Context, tx pgx.Tx, batch *projection.Batch) error
}

func (p *tally) Spec() projection.Spec {
	spec := p.spec
	if spec.Name == "" {
		spec.Name = "tally"
	}
	spec.Tables = []projection.Table{
		{Name: spec.Name + "_seen", SQL: `CREATE TABLE {{table}} (n bigint GENERATED ALWAYS AS IDENTITY, position bigint, stream text, version bigint, text text)`},
		{Name: spec.Name + "_count", SQL: `CREATE TABLE {{table}} (stream text PRIMARY KEY, events bigint, last_version bigint)`},
	}
	return spec
}

func (p *tally) Apply(ctx context.Context, tx pgx.Tx, batch *projection.Batch) error {
	name := p.Spec().Name
	rows := make([][]any, len(batch.Events))
	var counts pgx.Batch
	for i, e := range batch.Events {
		if p.fails != nil {
			if err := p.fails(e); err != nil {
				return err
			}
		}
		rows[i] = []any{int64(e.Position), string(e.StreamID), int64(e.Version), e.Data.(note).Text}
		counts.Queue(`INSERT INTO `+batch.Table(name+"_count")+` AS c VALUES ($1, 1, $2)
ON CONFLICT (stream) DO UPDATE SET events = c.events + 1, last_version = excluded.last_version`, string(e.StreamID), int64(e.Version))
	}
	if err := batch.Copy(ctx, tx, name+"_seen", []string{"position", "stream", "version", "text"}, rows); err != nil {
		return err
	}
	if err := tx.SendBatch(ctx, &counts).Close(); err != nil {
		return err
	}
	if p.after != nil {
		return p.after(ctx, tx, batch)
	}
	return nil
}

// running starts a runner, and stops it with the test.
func running(t testing.TB, runner *projection.Runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func newRunner(t testing.TB, log *eventstoretest.Log, config projection.Config) *projection.Runner {
	t.Helper()
	runner, err := projection.New(log.Store, config)
	require.NoError(t, err)
	return runner
}

// quick makes leases and retries short.
func quick(p ...projection.Projection) projection.Config {
	return projection.Config{Projections: p, Lease: time.Second, RetryAfter: 50 * time.Millisecond}
}

type seen struct {
	Position int64
	Stream   string
	Version  int64
	Text     string
}

// tallied reads what a tally has written, in the order in which it was.
func tallied(t testing.TB, pool *pgxpool.Pool, schema, name string) []seen {
	t.Helper()
	rows, err := pool.Query(t.Context(), fmt.Sprintf(`SELECT position, stream, version, text FROM %s.%s_seen ORDER BY n`, schema, name))
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[seen])
	require.NoError(t, err)
	return all
}

// requireFold asks that a tally is the fold of the log: each event once, each stream's in order, but for those left out.
func requireFold(t testing.TB, log *eventstoretest.Log, name string, without ...eventstore.Position) {
	t.Helper()
	left := map[eventstore.Position]bool{}
	for _, p := range without {
		left[p] = true
	}
	var want []seen
	counts := map[string]int64{}
	for _, e := range eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{})) {
		if !left[e.Position] {
			want = append(want, seen{int64(e.Position), string(e.StreamID), int64(e.Version), e.Data.(note).Text})
			counts[string(e.StreamID)]++
		}
	}
	got := tallied(t, log.Pool, log.Schema(), name)
	require.ElementsMatch(t, want, got)
	last := map[string]int64{}
	for _, s := range got {
		require.Greater(t, s.Version, last[s.Stream], "stream %s is out of order", s.Stream)
		last[s.Stream] = s.Version
	}
	rows, err := log.Pool.Query(t.Context(), fmt.Sprintf(`SELECT stream, events FROM %s.%s_count`, log.Schema(), name))
	require.NoError(t, err)
	type count struct {
		Stream string
		Events int64
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[count])
	require.NoError(t, err)
	found := map[string]int64{}
	for _, c := range list {
		found[c.Stream] = c.Events
	}
	require.Equal(t, counts, found)
}

func appendTo(t testing.TB, log *eventstoretest.Log, stream string, texts ...string) eventstore.Receipt {
	t.Helper()
	events := make([]any, len(texts))
	for i, text := range texts {
		events[i] = note{text}
	}
	receipt, err := log.Append(testContext(t, time.Minute), eventstore.StreamID(stream), eventstore.Any, events...)
	require.NoError(t, err)
	return receipt
}

func waitFor(t testing.TB, runner *projection.Runner, name string, at eventstore.Position) {
	t.Helper()
	require.NoError(t, runner.WaitFor(testContext(t, 30*time.Second), name, at))
}

var errPoison = errors.New("poison")

// failing is a predicate that a test can switch off.
type failing struct {
	off  atomic.Bool
	text string
}

func (f *failing) check(e eventstore.Recorded) error {
	if !f.off.Load() && e.Data.(note).Text == f.text {
		return errPoison
	}
	return nil
}

func mustID() uuid.UUID { return uuid.Must(uuid.NewV7()) }
