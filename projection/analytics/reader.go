package analytics

import (
	"context"
	"errors"
	"fmt"
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
	// Version of the star, where another one must not be read. Defaults to whichever the views show.
	Version int
	// StatementTimeout ends a statement that takes longer, and a transaction in which nothing is asked for so long. Defaults to
	// 30 s.
	StatementTimeout time.Duration
}

// Reader reads a star through a pool of its own, so that a dashboard can neither take the log's connections nor keep one for
// long. The pool may point at a streaming replica.
type Reader struct {
	pool        *pgxpool.Pool
	config      ReaderConfig
	hold, begin string
}

// ErrOtherVersion is returned by a [Reader] of one version where the views show another one.
var ErrOtherVersion = errors.New("another version of the star serves")

// Fresh says how far the tables go that a query sees. On a replica it is as replayed there.
type Fresh struct {
	// Version of the star that the views show.
	Version int
	// Position that facts and dimensions go to, written at At.
	Position eventstore.Position
	At       time.Time
	// Marks are the changes that aggregates do not show yet, the oldest made at MarkedAt; 0: the aggregates are those of the
	// facts, as of RefreshedAt's day. Both times are zero where there is none.
	Marks                 int64
	MarkedAt, RefreshedAt time.Time
}

// Open makes a reader, which the caller closes. It connects to see that the star is there: errors match
// [projection.ErrNotMigrated] where it is not, and [eventstore.ErrInvalid].
func Open(ctx context.Context, pool *pgxpool.Config, config ReaderConfig) (*Reader, error) {
	if config.Schema == "" {
		config.Schema = eventstore.DefaultSchema
	}
	if config.StatementTimeout == 0 {
		config.StatementTimeout = 30 * time.Second
	}
	if config.StatementTimeout < time.Millisecond || config.Version < 0 {
		return nil, &eventstore.InvalidError{Index: -1, Field: "ReaderConfig", Reason: "has a StatementTimeout under a millisecond or a negative Version"}
	}
	schema := string(pg.QuoteSchema(config.Schema))
	begin, err := sqlOf("reader_begin", "schema", schema)
	if err != nil {
		return nil, err
	}
	// Compiling a query over 24 partitions took seconds, which it never won back. The lock comes before the snapshot, and holds the views: what they show is what the snapshot says that they do.
	hold := fmt.Sprintf(`SET LOCAL statement_timeout = %[1]d; SET LOCAL idle_in_transaction_session_timeout = %[1]d; SET LOCAL jit = off; SET LOCAL enable_partitionwise_aggregate = on; LOCK TABLE %[2]s.%[3]s IN ACCESS SHARE MODE`,
		config.StatementTimeout.Milliseconds(), schema, tableDirty)
	r := &Reader{config: config, hold: hold, begin: begin}
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

// Query runs f in a transaction that only reads, on one snapshot: all that f reads is of one version of the star, facts and
// dimensions go to upTo.Position and no further, and aggregates agree with them but for upTo.Marks. Tables go by their plain names.
// A replica may end a long query (SQLSTATE 40001), as replay must go on. Errors match [ErrOtherVersion].
func (r *Reader) Query(ctx context.Context, f func(tx pgx.Tx, upTo Fresh) error) error {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, r.pool, options, func(tx pgx.Tx) error {
		upTo, err := r.look(ctx, tx)
		if err != nil {
			return fmt.Errorf("reading the star: %w", err)
		}
		return f(tx, upTo)
	})
}

// look begins a transaction's reading.
func (r *Reader) look(ctx context.Context, tx pgx.Tx) (upTo Fresh, err error) {
	const noSchema = "3F000"
	if _, err := tx.Exec(ctx, r.hold); err != nil {
		if pg.Code(err) == noSchema {
			return upTo, fmt.Errorf("%w: %w", projection.ErrNotMigrated, err)
		}
		return upTo, notMigrated(err)
	}
	var marked, refreshed *time.Time
	err = tx.QueryRow(ctx, r.begin, r.config.Schema).Scan(&upTo.Version, &upTo.Position, &upTo.At, &upTo.Marks, &marked, &refreshed, nil)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return upTo, projection.ErrNotMigrated
	case err != nil:
		return upTo, notMigrated(err)
	case r.config.Version != 0 && r.config.Version != upTo.Version:
		return upTo, fmt.Errorf("%w: the views show version %d, want %d", ErrOtherVersion, upTo.Version, r.config.Version)
	}
	upTo.At = upTo.At.UTC()
	if marked != nil {
		upTo.MarkedAt = marked.UTC()
	}
	if refreshed != nil {
		upTo.RefreshedAt = refreshed.UTC()
	}
	return upTo, nil
}
