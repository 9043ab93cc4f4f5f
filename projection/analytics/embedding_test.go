package analytics_test

import (
	"context"
	"errors"
	"testing"
	"time"

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
	failed := false
	config := analytics.Config{Embedding: func(_ context.Context, e eventstore.Recorded) ([]float32, error) {
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
	build(t, log, config)
	var anns float64
	var bo bool
	require.NoError(t, log.Pool.QueryRow(ctx, `
SELECT (SELECT (embedding::extensions.vector::real[])[1] FROM hindsight.dim_personas WHERE persona_id = 'ann'),
       (SELECT embedding IS NULL FROM hindsight.dim_personas WHERE persona_id = 'bo')`).Scan(&anns, &bo))
	require.EqualValues(t, 31, anns)
	require.True(t, bo)
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
