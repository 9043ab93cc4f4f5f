package eventstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// pool makes a further pool to the log's database, as another process has one; wrap may be nil.
func (l testLog) pool(t testing.TB, wrap func(net.Conn) net.Conn) *pgxpool.Pool {
	t.Helper()
	return eventstoretest.Pool(t, l.Pool.Config().ConnString(), func(config *pgxpool.Config) {
		config.MaxConns = 8
		if wrap == nil {
			return
		}
		config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return wrap(conn), nil
		}
	})
}

// store makes a further store over the log.
func (l testLog) store(t testing.TB, pool *pgxpool.Pool, config eventstore.Config) *eventstore.Store {
	t.Helper()
	config.Schema, config.Codec = l.Schema(), noteCodec(t)
	store, err := eventstore.New(pool, config)
	require.NoError(t, err)
	return store
}

var errCut = errors.New("the test cut the connection")

// cutter cuts each connection after a random number of bytes, written or read.
type cutter struct {
	mu     sync.Mutex
	random *rand.Rand
	cuts   atomic.Int64
	// unread counts the answers to appends that the database had committed and that no client read to the end.
	unread atomic.Int64
}

func (c *cutter) wrap(conn net.Conn) net.Conn {
	const unbounded = 1 << 40
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.random.IntN(2) == 0 {
		return newCutConn(conn, c, c.random.IntN(2500), unbounded)
	}
	return newCutConn(conn, c, unbounded, c.random.IntN(12_000))
}

// cutConn is read by two goroutines when pgx closes a connection whose answer somebody still waits for.
type cutConn struct {
	net.Conn
	cutter        *cutter
	reads, writes atomic.Int64 // bytes left
}

func newCutConn(conn net.Conn, cutter *cutter, reads, writes int) *cutConn {
	c := &cutConn{Conn: conn, cutter: cutter}
	c.reads.Store(int64(reads))
	c.writes.Store(int64(writes))
	return c
}

// spend takes bytes from those left, and returns how many of them there were.
func spend(left *atomic.Int64, n int) int {
	return n + int(min(0, max(left.Add(-int64(n)), -int64(n))))
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	allowed := spend(&c.reads, n)
	if allowed == n {
		return n, err
	}
	// "appended", then "ready for a query, in no transaction": it was committed.
	if bytes.Contains(b[:n], []byte("appended")) && bytes.HasSuffix(b[:n], []byte("Z\x00\x00\x00\x05I")) {
		c.cutter.unread.Add(1)
	}
	return allowed, c.cut()
}

func (c *cutConn) Write(b []byte) (int, error) {
	allowed := spend(&c.writes, len(b))
	if allowed == len(b) {
		return c.Conn.Write(b)
	}
	n := 0
	if allowed > 0 {
		n, _ = c.Conn.Write(b[:allowed])
	}
	return n, c.cut()
}

func (c *cutConn) cut() error {
	c.cutter.cuts.Add(1)
	_ = c.Close()
	return errCut
}

// insistent is a writer that repeats each append until it is answered.
type insistent struct {
	store        func() *eventstore.Store // of now
	acknowledged []eventstore.Receipt
	repetitions  int
	found        int // receipts of an earlier try of its own
}

// maxInsistence bounds the tries of one append. It is a time: a server in a container may take long to be there again.
const maxInsistence = 90 * time.Second

// append repeats with the ids that the error of an unknown outcome names, so that what it writes is written once.
func (w *insistent) append(ctx context.Context, appends ...eventstore.StreamAppend) ([]eventstore.Receipt, error) {
	var err error
	for began := time.Now(); time.Since(began) < maxInsistence; {
		var receipts []eventstore.Receipt
		if len(appends) == 1 {
			receipts = make([]eventstore.Receipt, 1)
			receipts[0], err = w.store().Append(ctx, appends[0].StreamID, appends[0].Expected, appends[0].Events...)
		} else {
			receipts, err = w.store().AppendMany(ctx, appends...)
		}
		if err == nil {
			if receipts[0].Repeated {
				w.found++
			}
			w.acknowledged = append(w.acknowledged, receipts...)
			return receipts, nil
		}
		unknown, connecting := (*eventstore.OutcomeUnknownError)(nil), (*pgconn.ConnectError)(nil)
		switch {
		case errors.As(err, &unknown):
			appends, err = withIDs(appends, unknown)
			if err != nil {
				return nil, err
			}
		case !eventstore.Retryable(err) && !errors.As(err, &connecting):
			return nil, err
		}
		w.repetitions++
		pause := time.Millisecond
		if connecting != nil { // a server in a container takes seconds to be there again
			pause = 20 * time.Millisecond
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, fmt.Errorf("not answered: %w", err)
}

// withIDs puts the ids of an unknown outcome into the appends; they must name all of the events.
func withIDs(appends []eventstore.StreamAppend, unknown *eventstore.OutcomeUnknownError) ([]eventstore.StreamAppend, error) {
	ids := map[eventstore.StreamID][]uuid.UUID{unknown.StreamID: unknown.EventIDs}
	for _, other := range unknown.Others {
		ids[other.StreamID] = other.EventIDs
	}
	again := slices.Clone(appends)
	for i, a := range appends {
		if len(ids) != len(appends) || len(ids[a.StreamID]) != len(a.Events) {
			return nil, fmt.Errorf("an unknown outcome names %v for %v", ids, appends)
		}
		again[i].Events = make([]any, len(a.Events))
		for n, event := range a.Events {
			if before, ok := event.(eventstore.Event); ok {
				event = before.Data
			}
			again[i].Events[n] = eventstore.Event{ID: ids[a.StreamID][n], Data: event}
		}
	}
	return again, nil
}

// requireOnce shows that the log holds what was acknowledged where the receipts say, nothing else, and each stream dense.
func requireOnce(t *testing.T, store *eventstore.Store, acknowledged []eventstore.Receipt) {
	t.Helper()
	all := eventstoretest.Collect(t, store.All(testContext(t, time.Minute), 0, eventstore.Filter{}))
	stored := make(map[uuid.UUID]eventstore.Recorded, len(all))
	next := map[eventstore.StreamID]eventstore.Version{}
	for _, event := range all {
		require.NotContains(t, stored, event.ID, "an event is in the log twice")
		stored[event.ID] = event
		next[event.StreamID]++
		require.Equal(t, next[event.StreamID], event.Version, "%s", event.StreamID)
	}
	total := 0
	for _, receipt := range acknowledged {
		total += len(receipt.EventIDs)
		for i, id := range receipt.EventIDs {
			event, ok := stored[id]
			require.True(t, ok, "version %d of %s was acknowledged and is not there", receipt.Version, receipt.StreamID)
			require.Equal(t, receipt.StreamID, event.StreamID)
			require.Equal(t, receipt.Version-eventstore.Version(len(receipt.EventIDs)-1-i), event.Version)
			require.Equal(t, receipt.Positions[i], event.Position)
			require.Equal(t, receipt.RecordedAt, event.RecordedAt)
		}
	}
	require.Len(t, all, total, "each event that is in the log was acknowledged, and once")
}
