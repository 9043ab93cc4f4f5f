package analytics_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/devdb"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// logOfItsOwn is a log on a server of its own, whose database is prepared by a statement.
func logOfItsOwn(t *testing.T, prepare string) *eventstoretest.Log {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	server, err := devdb.StartCluster(ctx, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	pool := eventstoretest.Pool(t, server.URL())
	_, err = pool.Exec(ctx, prepare)
	require.NoError(t, err)
	store, err := eventstore.New(pool, eventstore.Config{Codec: focusgroup.Codec()})
	require.NoError(t, err)
	require.NoError(t, store.Migrate(ctx))
	return &eventstoretest.Log{Store: store, Pool: pool}
}

// Where the database has pgvector, personas have embeddings by a function of the user's, the newest that it made; an error that
// passes is tried again.
func TestEmbeddingsOfPersonas(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	log := logOfItsOwn(t, `CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions`)
	for _, e := range []any{
		focusgroup.PersonaCreated{PersonaID: "ann", Name: "Ann", Attributes: focusgroup.Attributes{Age: 30}},
		focusgroup.PersonaEdited{PersonaID: "ann", Name: "Ann", Attributes: focusgroup.Attributes{Age: 31}},
		focusgroup.PersonaEdited{PersonaID: "ann", Name: "no embedding"},
	} {
		_, err := log.Append(ctx, focusgroup.PersonaStream("ann"), eventstore.Any, e)
		require.NoError(t, err)
	}
	_, err := log.Append(ctx, focusgroup.PersonaStream("bo"), eventstore.Any, focusgroup.PersonaCreated{PersonaID: "bo", Name: "no embedding"})
	require.NoError(t, err)
	for id, age := range map[string]int{"cy": 51, "di": 0} { // what comes late counts where nothing newer was made
		_, err = log.Append(ctx, eventstore.StreamID("persona-"+id+"-refused"), eventstore.Any, focusgroup.PersonaCreated{PersonaID: id, Attributes: focusgroup.Attributes{Age: 50}})
		require.NoError(t, err)
		_, err = log.Append(ctx, focusgroup.PersonaStream(id), eventstore.Any, focusgroup.PersonaEdited{PersonaID: id, Attributes: focusgroup.Attributes{Age: age}})
		require.NoError(t, err)
	}
	var refuse atomic.Bool
	refuse.Store(true)
	failed := false
	config := analytics.Config{Facts: refusing(&refuse), Embedding: func(_ context.Context, e eventstore.Recorded) ([]float32, error) {
		if !failed {
			failed = true
			return nil, projection.Transient(errors.New("the model is busy"))
		}
		vector := make([]float32, 768)
		switch d := e.Data.(type) {
		case focusgroup.PersonaCreated:
			vector[0] = float32(d.Age)
		case focusgroup.PersonaEdited:
			vector[0] = float32(d.Age)
		}
		if vector[0] == 0 {
			return nil, nil
		}
		return vector, nil
	}}
	star, err := analytics.New(log.Store, config)
	require.NoError(t, err)
	runner := runUntilSettled(t, log, star)
	refuse.Store(false)
	retryParked(t, runner)
	rows, err := log.Pool.Query(ctx, `SELECT persona_id, coalesce((embedding::extensions.vector::real[])[1], 0) FROM hindsight.dim_personas WHERE persona_id <> ''`)
	require.NoError(t, err)
	found := map[string]float32{}
	for rows.Next() {
		var id string
		var age float32
		require.NoError(t, rows.Scan(&id, &age))
		found[id] = age
	}
	require.NoError(t, rows.Err())
	require.Equal(t, map[string]float32{"ann": 31, "bo": 0, "cy": 51, "di": 50}, found)
}

// A model that fails now and then comes to the end of a large batch: what it has made is kept, and nothing is asked in vain. A
// pool of one connection is enough.
func TestAModelThatFailsNowAndThen(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	log := logOfItsOwn(t, `CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions`)
	const personas = 35
	for i := range personas {
		id := fmt.Sprint("persona", i)
		_, err := log.Append(ctx, focusgroup.PersonaStream(id), eventstore.NoStream, focusgroup.PersonaCreated{PersonaID: id, Name: "old"}, focusgroup.PersonaEdited{PersonaID: id, Name: "new"})
		require.NoError(t, err)
	}
	_, err := log.Append(ctx, "persona-nobody", eventstore.NoStream, focusgroup.PersonaCreated{Name: "nobody"})
	require.NoError(t, err)

	narrow := log.Pool.Config()
	narrow.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(ctx, narrow)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	store, err := eventstore.New(pool, eventstore.Config{Codec: focusgroup.Codec()})
	require.NoError(t, err)
	var mu sync.Mutex
	calls, made := 0, map[eventstore.Position]int{}
	build(t, &eventstoretest.Log{Store: store, Pool: pool}, analytics.Config{Embedding: func(_ context.Context, e eventstore.Recorded) ([]float32, error) {
		mu.Lock()
		defer mu.Unlock()
		if calls++; calls%10 == 0 {
			return nil, projection.Transient(errors.New("the model is busy"))
		}
		if d, ok := e.Data.(focusgroup.PersonaEdited); !ok || d.Name != "new" {
			return nil, fmt.Errorf("event %d does not count", e.Position)
		}
		made[e.Position]++
		return make([]float32, 768), nil
	}})
	require.Len(t, made, personas)
	require.Equal(t, personas+calls/10, calls, "each once")
	var embedded int
	require.NoError(t, log.Pool.QueryRow(ctx, `SELECT count(embedding) FROM hindsight.dim_personas`).Scan(&embedded))
	require.Equal(t, personas, embedded)
}

// Without pgvector there is no such column, and nobody is asked.
func TestNoEmbeddingsWithoutPgvector(t *testing.T) {
	t.Parallel()
	log := logOfItsOwn(t, `SELECT 1`)
	_, err := log.Append(t.Context(), focusgroup.PersonaStream("ann"), eventstore.NoStream, focusgroup.PersonaCreated{PersonaID: "ann"})
	require.NoError(t, err)
	build(t, log, analytics.Config{Embedding: func(context.Context, eventstore.Recorded) ([]float32, error) {
		return nil, errors.New("asked for nothing")
	}})
	var columns int
	require.NoError(t, log.Pool.QueryRow(t.Context(), `
SELECT count(*) FROM information_schema.columns WHERE table_schema = $1 AND table_name = 'dim_personas' AND column_name = 'embedding'`, log.Schema()).Scan(&columns))
	require.Zero(t, columns)
}
