package analytics

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
	"github.com/sight-platform/hindsight/projection"
)

// ReaderConfig says what a [Reader] reads.
type ReaderConfig struct {
	// Schema of the log. Defaults to [eventstore.DefaultSchema].
	Schema string
	// Version of the star. Defaults to 1.
	Version int
	// StatementTimeout ends a statement that takes longer. Defaults to 30 s.
	StatementTimeout time.Duration
}

// Reader reads a star through a pool of its own, so that a dashboard can neither take the log's connections nor keep one for
// long. The pool may point at a streaming replica.
type Reader struct {
	pool   *pgxpool.Pool
	config ReaderConfig
	begin  string
}

// Fresh says how far the facts go that a query sees: to Position, written at At. On a replica both are as replayed there.
type Fresh struct {
	Position eventstore.Position
	At       time.Time
}

// Open makes a reader, which the caller closes. It connects to see that the star is there: errors match
// [projection.ErrNotMigrated] where it is not, and [eventstore.ErrInvalid].
func Open(ctx context.Context, pool *pgxpool.Config, config ReaderConfig) (*Reader, error) {
	if config.Schema == "" {
		config.Schema = eventstore.DefaultSchema
	}
	if config.Version == 0 {
		config.Version = 1
	}
	if config.StatementTimeout == 0 {
		config.StatementTimeout = 30 * time.Second
	}
	if config.StatementTimeout < time.Millisecond || config.Version < 1 {
		return nil, &eventstore.InvalidError{Index: -1, Field: "ReaderConfig", Reason: "has a StatementTimeout under a millisecond or a negative Version"}
	}
	begin, err := sqlOf("reader_begin", "schema", string(pg.QuoteSchema(config.Schema)))
	if err != nil {
		return nil, err
	}
	r := &Reader{config: config, begin: begin}
	if r.pool, err = pgxpool.NewWithConfig(ctx, pool); err != nil {
		return nil, fmt.Errorf("opening a reader: %w", err)
	}
	if err := r.Query(ctx, func(pgx.Tx, Fresh) error { return nil }); err != nil {
		r.pool.Close()
		return nil, err
	}
	return r, nil
}

// Close closes the pool, after the queries in flight.
func (r *Reader) Close() { r.pool.Close() }

// Query runs f in a transaction that only reads, on one snapshot: all that f reads agrees with each other and with upTo, and
// nothing of it is newer. Tables go by their plain names. A replica may end a long query (SQLSTATE 40001), as replay must go on.
func (r *Reader) Query(ctx context.Context, f func(tx pgx.Tx, upTo Fresh) error) error {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, r.pool, options, func(tx pgx.Tx) error {
		var upTo Fresh
		timeout := strconv.FormatInt(r.config.StatementTimeout.Milliseconds(), 10)
		err := tx.QueryRow(ctx, r.begin, r.config.Schema, timeout, r.config.Version).Scan(&upTo.Position, &upTo.At, nil)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("reading the star: %w", projection.ErrNotMigrated)
		}
		if err != nil {
			return fmt.Errorf("reading the star: %w", notMigrated(err))
		}
		upTo.At = upTo.At.UTC()
		return f(tx, upTo)
	})
}
