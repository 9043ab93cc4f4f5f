package vectorsearch

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"

	"github.com/sight-platform/hindsight/projection"
)

// textHash tells texts apart.
type textHash = uuid.UUID

func hashOf(text string) textHash {
	sum := sha256.Sum256([]byte(text))
	return textHash(sum[:16])
}

// kept are vectors that were paid for and may not be in the tables yet: a batch that fails is tried again.
type kept struct {
	mu   sync.Mutex
	old  map[textHash]pgvector.HalfVector
	held map[textHash]pgvector.HalfVector
}

// keptVectors is how many vectors are kept, at least.
const keptVectors = 5000

func (k *kept) get(hash textHash) (pgvector.HalfVector, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if vector, ok := k.held[hash]; ok {
		return vector, true
	}
	vector, ok := k.old[hash]
	return vector, ok
}

func (k *kept) put(hash textHash, vector pgvector.HalfVector) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held == nil || len(k.held) >= keptVectors {
		k.old, k.held = k.held, map[textHash]pgvector.HalfVector{}
	}
	k.held[hash] = vector
}

// embed finds or makes the vectors of pieces.
func (x *Index) embed(ctx context.Context, batch *projection.Batch, pieces []piece) (map[textHash]pgvector.HalfVector, error) {
	vectors := map[textHash]pgvector.HalfVector{}
	var missing []textHash
	texts := map[textHash]string{}
	for _, p := range pieces {
		if _, ok := vectors[p.hash]; ok || texts[p.hash] != "" {
			continue
		}
		if vector, ok := x.kept.get(p.hash); ok {
			vectors[p.hash] = vector
			continue
		}
		texts[p.hash] = p.Text
		missing = append(missing, p.hash)
	}
	if err := x.embedded(ctx, missing, vectors); err != nil {
		return nil, err
	}
	missing = slices.DeleteFunc(missing, func(hash textHash) bool { _, ok := vectors[hash]; return ok })
	for part := range slices.Chunk(missing, x.model.MaxTexts) {
		if err := x.embedCall(ctx, call{batch, part, texts, vectors}); err != nil {
			return nil, err
		}
	}
	return vectors, nil
}

// embedded looks vectors up in the tables.
func (x *Index) embedded(ctx context.Context, hashes []textHash, vectors map[textHash]pgvector.HalfVector) error {
	if len(hashes) == 0 {
		return nil
	}
	ids := make([]string, len(hashes))
	for i, hash := range hashes {
		ids[i] = hash.String()
	}
	// The cast to text[] is for poolers, where pgx cannot know the type of an array of uuid.
	return x.onConn(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, x.sql(`SELECT h.hash, v.embedding FROM unnest($1::text[]::uuid[]) AS h (hash) CROSS JOIN LATERAL (SELECT embedding FROM {{vectors}} WHERE hash = h.hash LIMIT 1) AS v`), ids)
		if err != nil {
			return err
		}
		type text struct {
			Hash   textHash
			Vector pgvector.HalfVector
		}
		found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[text])
		for _, t := range found {
			vectors[t.Hash] = t.Vector
			x.kept.put(t.Hash, t.Vector)
		}
		return err
	})
}

// call is texts that are embedded together.
type call struct {
	batch   *projection.Batch
	hashes  []textHash
	texts   map[textHash]string
	vectors map[textHash]pgvector.HalfVector // of all calls
}

func (c call) of(hashes []textHash) call {
	c.hashes = hashes
	return c
}

// tries is how often texts are sent before one of them may be to blame for errors that look like passing ones.
const tries = 3

// embedCall has texts embedded in one call, or in several smaller ones where one of them is refused. It waits out rate limits.
func (x *Index) embedCall(ctx context.Context, c call) error {
	var err error
	for try, failures := 0, 0; failures < tries; try++ {
		var usage Usage
		usage, err = x.embedOnce(ctx, c)
		if noteErr := x.note(ctx, c.batch, len(c.hashes), usage, err != nil); noteErr != nil {
			return projection.Transient(noteErr) // the vectors are kept: nothing is sent again
		}
		if err == nil {
			return nil
		}
		var limit *RateLimitError
		var answer *VectorError
		after := 200 * time.Millisecond << min(try, 8)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &limit):
			after = cmp.Or(limit.After, min(time.Second<<min(try, 10), longestWait))
		case isText(err), errors.Is(err, ErrBatch):
			failures = tries
			continue
		case errors.Is(err, ErrRefused), errors.As(err, &answer):
			return projection.Transient(x.embedError(err))
		default:
			failures++
		}
		if err := wait(ctx, after); err != nil {
			return err
		}
	}
	if !x.serves(ctx, c.batch) { // no text is to blame
		return projection.Transient(x.embedError(err))
	}
	return x.apart(ctx, c, err)
}

// apart embeds the texts of a call that failed in smaller ones. The error is that of the text which fails by itself.
func (x *Index) apart(ctx context.Context, c call, err error) error {
	if len(c.hashes) == 1 { // its cause may look like one that passes: it does not, for this text
		return x.embedError(&TextError{Err: errors.New(err.Error())})
	}
	var text *TextError
	if errors.As(err, &text) && text.Index >= 0 && text.Index < len(c.hashes) {
		bad := c.hashes[text.Index]
		rest := slices.DeleteFunc(slices.Clone(c.hashes), func(hash textHash) bool { return hash == bad })
		if err := x.embedCall(ctx, c.of(rest)); err != nil { // they are kept for when the batch is tried without the bad one
			return err
		}
		return x.embedError(&TextError{Err: errors.New(err.Error())})
	}
	half := len(c.hashes) / 2
	if err := x.embedCall(ctx, c.of(c.hashes[:half])); err != nil {
		return err
	}
	return x.embedCall(ctx, c.of(c.hashes[half:]))
}

// serves says whether the service embeds a plain text.
func (x *Index) serves(ctx context.Context, batch *projection.Batch) bool {
	texts := []string{"hello"}
	found, usage, err := x.config.Embedder.Embed(ctx, texts)
	if err == nil {
		err = CheckVectors(x.model, texts, found)
	}
	return x.note(ctx, batch, len(texts), usage, true) == nil && err == nil
}

func (x *Index) embedError(err error) error {
	return fmt.Errorf("embedding by %s: %w", x.model.Name, err)
}

// embedOnce is one call.
func (x *Index) embedOnce(ctx context.Context, c call) (Usage, error) {
	list := make([]string, len(c.hashes))
	for i, hash := range c.hashes {
		list[i] = c.texts[hash]
	}
	found, usage, err := x.config.Embedder.Embed(ctx, list)
	if err == nil {
		err = CheckVectors(x.model, list, found)
	}
	if err == nil {
		for i, hash := range c.hashes {
			c.vectors[hash] = pgvector.NewHalfVector(unit(found[i]))
			x.kept.put(hash, c.vectors[hash])
		}
	}
	return usage, err
}

// unit is a vector of length 1: only its direction counts, and half precision ends at 65,504.
func unit(vector []float32) []float32 {
	largest := 0.0
	for _, x := range vector {
		largest = max(largest, math.Abs(float64(x)))
	}
	sum := 0.0
	for _, x := range vector { // scaled first: the squares of what float32 holds can be too large or vanish
		sum += (float64(x) / largest) * (float64(x) / largest)
	}
	out := make([]float32, len(vector))
	for i, x := range vector {
		out[i] = float32(float64(x) / largest / math.Sqrt(sum))
	}
	return out
}

// isText says that one text is to blame.
func isText(err error) bool {
	var text *TextError
	return errors.As(err, &text)
}

// longestWait is for a service that does not say how long its rate limit lasts.
const longestWait = time.Minute

func wait(ctx context.Context, after time.Duration) error {
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// note writes what a call has cost, at once: it was paid for, whatever becomes of the batch.
func (x *Index) note(ctx context.Context, batch *projection.Batch, texts int, usage Usage, failed bool) error {
	if failed && usage == (Usage{}) {
		return nil
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer stop()
	_, err := x.store.Pool().Exec(ctx, x.sql(`INSERT INTO {{costs}} (texts, tokens, cost, failed, first_position, last_position) VALUES ($1, $2, $3, $4, $5, $6)`),
		texts, usage.Tokens, usage.CostUSD, failed, int64(batch.Events[0].Position), int64(batch.Position()))
	if err != nil {
		return fmt.Errorf("noting the cost of a call: %w", err)
	}
	return nil
}
