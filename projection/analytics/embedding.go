package analytics

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore/focusgroup"
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
type embedded map[string][]float32

// embed asks for the embeddings of the personas that a batch makes or changes, before its transaction: it may take long.
func (s *Star) embed(ctx context.Context, batch *projection.Batch) (embedded, error) {
	if s.config.Embedding == nil {
		return nil, nil
	}
	kind, err := s.embeddingType(ctx, batch)
	if err != nil || kind == "" {
		return nil, err
	}
	found := embedded{}
	for _, e := range batch.Events {
		var id string
		switch d := e.Data.(type) {
		case focusgroup.PersonaCreated:
			id = d.PersonaID
		case focusgroup.PersonaEdited:
			id = d.PersonaID
		default:
			continue
		}
		vector, err := s.config.Embedding(ctx, e)
		switch {
		case err != nil:
			return nil, fmt.Errorf("embedding persona %s: %w", id, err)
		case vector == nil:
		case len(vector) != embeddingSize:
			return nil, fmt.Errorf("embedding persona %s: it has %d dimensions, want %d", id, len(vector), embeddingSize)
		default:
			found[id] = vector
		}
	}
	return found, nil
}

// embeddingType is the column's type as it is written here, or empty if there is no such column.
func (s *Star) embeddingType(ctx context.Context, batch *projection.Batch) (kind string, err error) {
	err = s.store.Pool().QueryRow(ctx, `SELECT atttypid::regtype::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = 'embedding'`,
		batch.Table(string(Personas))).Scan(&kind)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return kind, err
}

// writeEmbeddings writes what was prepared. The personas are there: they were made by the same batch, or before.
func (s *Star) writeEmbeddings(ctx context.Context, tx pgx.Tx, batch *projection.Batch) error {
	found, _ := batch.Prepared.(embedded)
	if len(found) == 0 {
		return nil
	}
	kind, err := s.embeddingType(ctx, batch)
	if err != nil {
		return err
	}
	var ids, vectors []string
	for id, vector := range found {
		ids, vectors = append(ids, id), append(vectors, vectorText(vector))
	}
	_, err = tx.Exec(ctx, `UPDATE `+batch.Table(string(Personas))+` AS p SET embedding = e.vector::`+kind+`
  FROM unnest($1::text[], $2::text[]) AS e (id, vector) WHERE p.persona_id = e.id`, ids, vectors)
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
