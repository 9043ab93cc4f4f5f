package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/internal/pg"
)

// Config of a [Store]. The zero value works.
type Config struct {
	// Schema holds the log's tables: lower-case letters, digits and underscores. Several logs may live in one database.
	// Defaults to "hindsight".
	Schema string
	// Codec knows the payload types. Defaults to none: events are appended and read as [Raw].
	Codec *Codec
	// Cipher protects bodies at rest. Defaults to none.
	Cipher Cipher
	// MaxClockSkew is how far a stream's last event may be ahead of the database's clock, which can happen after the
	// clock was set back. An append to such a stream is recorded at that event's time. Defaults to 1 minute.
	MaxClockSkew time.Duration
	// PollInterval is the longest pause between two looks of [Store.Follow] at an idle log that other processes append
	// to; appends through the same store wake it at once. Defaults to 100 ms.
	PollInterval time.Duration
	// PageSize is the number of events that readers fetch at a time. Defaults to 1,000.
	PageSize int
	// Cold reads the months that were archived, so that streams and the log go on into them. Defaults to none: what reaches
	// such a month ends with [ErrArchived].
	Cold Cold
	// InTx joins the transaction of each append: see [InTx]. Defaults to none.
	InTx InTx
	// Clock replaces the database's clock for recorded_at. For tests: a log refuses it unless eventstoretest made it.
	// Defaults to none.
	Clock func() time.Time
}

// InTx is a pair of hooks in the transaction of each append, the caller's or one that is made for it. Inline projections use
// it. A store with hooks does not share commits among concurrent appends, and refuses imports, which would pass them by.
// Every store that appends to the log should have them. Both may be called concurrently; tx is theirs to write with.
type InTx struct {
	// Before runs first.
	Before func(ctx context.Context, tx pgx.Tx, schema string) error
	// After runs when the events are written: what it writes commits with them, and its error undoes them.
	After func(ctx context.Context, tx pgx.Tx, schema string, events []Recorded) error
}

// Cipher is a pair of hooks around the stored bytes of a body, for encryption by key: erasing a key then erases what it
// protects. Encode runs after the codec; what it returns must be JSON, and the key id goes to Metadata.KeyID. Decode
// runs before the codec for events that have a key id. Both may be called concurrently.
type Cipher struct {
	Encode func(ctx context.Context, e CipherInfo) (body json.RawMessage, keyID string, err error)
	Decode func(ctx context.Context, e CipherInfo) (body json.RawMessage, err error)
}

// CipherInfo is the event that a [Cipher] works on.
type CipherInfo struct {
	StreamID StreamID
	Type     string
	Metadata Metadata // KeyID is set for Decode; empty for Encode
	JSON     json.RawMessage
}

func (c Config) withDefaults() Config {
	if c.Schema == "" {
		c.Schema = DefaultSchema
	}
	if c.MaxClockSkew == 0 {
		c.MaxClockSkew = time.Minute
	}
	if c.PollInterval == 0 {
		c.PollInterval = 100 * time.Millisecond
	}
	if c.PageSize == 0 {
		c.PageSize = 1000
	}
	return c
}

func (c Config) validate() error {
	if err := checkSchemaName(c.Schema); err != nil {
		return err
	}
	switch {
	case c.MaxClockSkew < 0:
		return &InvalidError{Index: -1, Field: "Config.MaxClockSkew", Reason: "is negative"}
	case c.PollInterval < time.Millisecond:
		return &InvalidError{Index: -1, Field: "Config.PollInterval", Reason: "is under a millisecond"}
	case c.PageSize < 1 || c.PageSize > maxPageSize:
		return &InvalidError{Index: -1, Field: "Config.PageSize", Reason: fmt.Sprintf("is not within 1 and %d", maxPageSize)}
	}
	return nil
}

// DefaultSchema is the schema of a Config that names none.
const DefaultSchema = "hindsight"

const maxPageSize = 100_000

// The name stands in SQL strings and identifiers alike, so it must need no quoting in either.
func checkSchemaName(name string) error {
	if ok, _ := regexp.MatchString(`^[a-z_][a-z0-9_]{0,62}$`, name); !ok {
		return &InvalidError{Index: -1, Field: "Config.Schema", Reason: fmt.Sprintf("%q is not made of up to 63 lower-case letters, digits and underscores", name)}
	}
	return nil
}

// Store is a log in a PostgreSQL schema. It is safe for concurrent use, starts no goroutine, and holds no connection
// between calls.
type Store struct {
	config Config
	sql    queries
	db     pg.DB         // the pool, or the caller's transaction
	pool   *pgxpool.Pool // nil inside a transaction
	makers *pgxpool.Pool // the pool inside a transaction too, for making months beside it; may be nil
	months *monthList    // a transaction has its own
	news   *newsroom     // as above
	group  *group        // of concurrent appends; nil inside a transaction

	filteredScan Position
}

// New makes a store over a pool. It neither connects nor creates anything; see [Store.Migrate]. The pool may be nil for
// a program that only works in transactions of its own, through [Store.WithTx].
func New(pool *pgxpool.Pool, config Config) (*Store, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	s := &Store{
		config: config, sql: newQueries(pg.QuoteSchema(config.Schema)), pool: pool, makers: pool,
		months: &monthList{}, news: newNewsroom(), group: newGroup(), filteredScan: defaultFilteredScan,
	}
	s.db = noPool{}
	if pool != nil {
		s.db = pool
	} else {
		s.group = nil
	}
	return s, nil
}

// WithTx is the same store inside the caller's transaction: what it appends commits or rolls back with the caller's own
// rows. The transaction stays the caller's to end. It goes on after [ErrConflict], [ErrInvalid], [ErrUnknownType], [ErrClock],
// [ErrMonthClosed], [ErrMonthMissing], [ErrStreamNotFound], [ErrBadCursor], [ErrArchived] and errors of decoding; any other error comes from
// PostgreSQL and has aborted it.
//
// Within the transaction stream reads show its own events; the global log does not, as they are not settled. Under
// REPEATABLE READ and SERIALIZABLE the global log ends at the last position stored by [Store.Settle]; a month that was dropped since
// the transaction's snapshot is an [ErrSerialization].
//
// From an append to its end the transaction holds back readers of the global log, and writers of the same streams: keep it
// short. A month that is missing is made beside it, in a short transaction of the store's pool; without a pool it is made
// inside, and other appends into that month then wait for its end, 2 s at most.
func (s *Store) WithTx(tx pgx.Tx) *Store {
	inTx := *s
	inTx.db, inTx.pool, inTx.group = tx, nil, nil
	inTx.months = &monthList{} // as the transaction sees them
	return &inTx
}

// Schema is the schema the log lives in.
func (s *Store) Schema() string { return s.config.Schema }

// Pool is the pool that the store was made with; nil if it was made without one, or by [Store.WithTx].
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

// Codec is the codec of the store's Config; nil if it has none.
func (s *Store) Codec() *Codec { return s.config.Codec }

// inTx reports whether the store is bound to a caller's transaction.
func (s *Store) inTx() bool { _, ok := s.db.(pgx.Tx); return ok }

// Head is a stream's head row.
type Head struct {
	StreamID        StreamID
	Version         Version // of the last event
	Project         string  // empty where the stream was begun without one
	FirstRecordedAt time.Time
	LastRecordedAt  time.Time
}

// Head returns the head of a stream, or an error that matches [ErrStreamNotFound].
func (s *Store) Head(ctx context.Context, id StreamID) (Head, error) {
	if err := id.Validate(); err != nil {
		return Head{}, err
	}
	return scanHead(s.db.QueryRow(ctx, s.sql.head, string(id)), id)
}

func scanHead(row pgx.Row, id StreamID) (Head, error) {
	head := Head{StreamID: id}
	err := row.Scan(&head.Version, &head.Project, &head.FirstRecordedAt, &head.LastRecordedAt)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Head{}, fmt.Errorf("stream %s: %w", id, ErrStreamNotFound)
	case err != nil:
		return Head{}, fmt.Errorf("reading the head of %s: %w", id, err)
	}
	head.FirstRecordedAt, head.LastRecordedAt = head.FirstRecordedAt.UTC(), head.LastRecordedAt.UTC()
	return head, nil
}
