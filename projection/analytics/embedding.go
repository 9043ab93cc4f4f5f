package analytics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/pg"
	"github.com/sight-platform/hindsight/projection"
)

// embeddingSize is how many dimensions dim_personas.embedding has.
const embeddingSize = 768

// embeddingSQL adds the column where the database has pgvector, in whatever schema its types are.
const embeddingSQL = `
DO $$
DECLARE
    v_schema text := (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector');
BEGIN
    IF v_schema IS NOT NULL THEN
        EXECUTE format('ALTER TABLE {{table}} ADD COLUMN embedding %I.vector(768)', v_schema);
        COMMENT ON COLUMN {{table}}.embedding IS 'Embedding of the persona as it is, 768 dimensions; NULL where none was made.';
    END IF;
END $$;`

// embedded are the embeddings of a batch, by persona.
type embedded map[string]embedding

type embedding struct {
	of     eventstore.Position
	vector []float32
}

// embed asks for the embeddings of the personas that a batch makes or changes, before its transaction: it may take long.
func (s *Star) embed(ctx context.Context, events []eventstore.Recorded) (embedded, error) {
	if s.config.Embedding == nil || len(events) == 0 {
		return nil, nil
	}
	kind, err := s.embeddingType(ctx, s.store.Pool())
	if err != nil || kind == "" {
		return nil, err
	}
	s.forgetVectors(events[0].Position)
	found := embedded{}
	for _, e := range slices.Backward(events) { // the newest of a persona counts
		var id string
		switch d := e.Data.(type) {
		case focusgroup.PersonaCreated:
			id = d.PersonaID
		case focusgroup.PersonaEdited:
			id = d.PersonaID
		}
		if _, ok := found[id]; ok || id == "" {
			continue
		}
		vector, err := s.vectorOf(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("embedding persona %s: %w", id, err)
		}
		if vector != nil {
			found[id] = embedding{e.Position, vector}
		}
	}
	return found, nil
}

// vectorOf asks the model once for each event, however often the batch is tried: a model that fails now and then would never
// come to the end of a large one.
func (s *Star) vectorOf(ctx context.Context, e eventstore.Recorded) ([]float32, error) {
	s.mu.Lock()
	vector, ok := s.vectors[e.Position]
	s.mu.Unlock()
	if ok {
		return vector, nil
	}
	vector, err := s.config.Embedding(ctx, e)
	if err != nil {
		return nil, err
	}
	if vector != nil && len(vector) != embeddingSize {
		return nil, fmt.Errorf("it has %d dimensions, want %d", len(vector), embeddingSize)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vectors[e.Position] = vector
	return vector, nil
}

// forgetVectors drops what batches before a position have made.
func (s *Star) forgetVectors(before eventstore.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.vectors, func(p eventstore.Position, _ []float32) bool { return p < before })
}

// embeddingType is the column's type as it is written here, or empty if there is no such column.
func (s *Star) embeddingType(ctx context.Context, db pg.DB) (kind string, err error) {
	err = db.QueryRow(ctx, `SELECT atttypid::regtype::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = 'embedding'`,
		s.table(string(Personas))).Scan(&kind)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return kind, err
}

// writeEmbeddings writes what was prepared. The personas are there: they were made by the same batch, or before. What comes late
// gives way to what there is.
func (s *Star) writeEmbeddings(ctx context.Context, tx pgx.Tx, batch *projection.Batch) error {
	found, _ := batch.Prepared.(embedded)
	if len(found) == 0 {
		return nil
	}
	kind, err := s.embeddingType(ctx, tx)
	if err != nil {
		return err
	}
	var ids, vectors []string
	var positions []int64
	for id, e := range found {
		ids, vectors, positions = append(ids, id), append(vectors, vectorText(e.vector)), append(positions, int64(e.of))
	}
	_, err = tx.Exec(ctx, `UPDATE `+batch.Table(string(Personas))+` AS p SET embedding = e.vector::`+kind+`
  FROM unnest($1::text[], $2::text[], $3::bigint[]) AS e (id, vector, position)
 WHERE p.persona_id = e.id AND (p.embedding IS NULL OR p.position <= e.position)`, ids, vectors, positions)
	if err != nil {
		return fmt.Errorf("writing embeddings: %w", err)
	}
	return nil
}

func vectorText(vector []float32) string {
	var out strings.Builder
	for i, x := range vector {
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString(strconv.FormatFloat(float64(x), 'g', -1, 32))
	}
	return "[" + out.String() + "]"
}
