package partition

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/migrate"
	"github.com/sight-platform/hindsight/internal/pg"
)

// Config of [Months]. The zero value makes months ahead and seals those that are over, and archives none.
type Config struct {
	// Archive keeps what leaves the database. Defaults to none: months stay.
	Archive Blob
	// Online is how many months that are over stay in the database, beside the current one; older ones are archived. It
	// counts where there is an Archive. Defaults to 3.
	Online int
	// Quarantine is how long a month that was detached can be put back without its archive, before it is dropped. Defaults to
	// 7 days.
	Quarantine time.Duration
	// Archived is how many months stay in the archive, beside those in the database; older ones are deleted, and nothing brings them
	// back. Defaults to 0: all of them stay.
	Archived int
	// Ahead is how many months are made before they begin. Defaults to 3; at most 12.
	Ahead int
	// MaxClockSkew is how long after its end a month is sealed: as in [eventstore.Config]. Defaults to 1 minute.
	MaxClockSkew time.Duration
	// Interval is the pause between two runs of [Months.Run]. Defaults to 1 hour.
	Interval time.Duration
	// Progress is told how far a long step is. It is called by one goroutine at a time. Defaults to nothing.
	Progress func(Progress)
	// Logger takes what an operator may want to know. Defaults to slog.Default.
	Logger *slog.Logger
}

// Progress is how far a step is.
type Progress struct {
	Month    time.Time
	Step     string // "digest" (told at its beginning and its end), "export", "verify", "restore", "drill"
	Rows, Of int64  // events done, and of the month; Of is 0 before they were counted
}

func (c Config) withDefaults() Config {
	if c.Online == 0 {
		c.Online = 3
	}
	if c.Quarantine == 0 {
		c.Quarantine = 7 * 24 * time.Hour
	}
	if c.Ahead == 0 {
		c.Ahead = 3
	}
	if c.MaxClockSkew == 0 {
		c.MaxClockSkew = time.Minute
	}
	if c.Interval == 0 {
		c.Interval = time.Hour
	}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) validate() error {
	invalid := func(field, reason string) error {
		return &eventstore.InvalidError{Index: -1, Field: "Config." + field, Reason: reason}
	}
	switch {
	case c.Online < 0:
		return invalid("Online", "is negative")
	case c.Archived < 0:
		return invalid("Archived", "is negative")
	case c.Quarantine < 0:
		return invalid("Quarantine", "is negative")
	case c.Ahead < 0 || c.Ahead > 12:
		return invalid("Ahead", "is negative or above 12")
	case c.MaxClockSkew < 0:
		return invalid("MaxClockSkew", "is negative")
	case c.Interval < time.Second:
		return invalid("Interval", "is under a second")
	}
	return nil
}

// Months looks after the months of a log. It is safe for concurrent use, by any number of processes: one works at a time.
type Months struct {
	pool   *pgxpool.Pool
	schema string
	quoted pg.Schema
	sql    map[string]string
	config Config
	rows   partRows
}

//go:embed sql/*.sql
var sqlFiles embed.FS

//go:embed schema/*.sql
var schemaFiles embed.FS

// New looks after the months of a store, with its pool, whose role has to own the log: the one that ran Migrate. Through a
// pooler its connections need session mode. It neither connects nor starts anything. Errors match [eventstore.ErrInvalid] or
// [eventstore.ErrNoPool].
func New(store *eventstore.Store, config Config) (*Months, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	if store.Pool() == nil {
		return nil, eventstore.ErrNoPool
	}
	quoted := pg.QuoteSchema(store.Schema())
	sql, err := quoted.Files(sqlFiles)
	if err != nil {
		return nil, err
	}
	return &Months{pool: store.Pool(), schema: store.Schema(), quoted: quoted, sql: sql, config: config, rows: defaultRows}, nil
}

func schemaLine() (*migrate.Line, error) { return migrate.Parse("partition", schemaFiles) }

// Migrate makes this package's tables, after [eventstore.Store.Migrate]; [Months.Run] does it too. Any number of processes may run it at
// once.
func (m *Months) Migrate(ctx context.Context) error {
	line, err := schemaLine()
	if err != nil {
		return err
	}
	return line.Run(ctx, m.pool, m.schema)
}

// Migrations exports this package's tables for other migration tools, to run after those of [eventstore.Migrations].
func Migrations(schema string) ([]eventstore.Migration, error) {
	if _, err := eventstore.Migrations(schema); err != nil { // it checks the name
		return nil, err
	}
	line, err := schemaLine()
	if err != nil {
		return nil, err
	}
	var out []eventstore.Migration
	for _, step := range line.Export(cmp.Or(schema, eventstore.DefaultSchema)) {
		out = append(out, eventstore.Migration(step))
	}
	return out, nil
}

// State is what has become of a month.
type State string

// The states of a month; see the package's documentation.
const (
	Open     State = "open"
	Sealing  State = "sealing"
	Sealed   State = "sealed"
	Exported State = "exported"
	Verified State = "verified"
	Detached State = "detached"
	Dropped  State = "dropped"
	Restored State = "restored"
)

// registered is a row of the month registry, and what there is of it.
type registered struct {
	Month       time.Time // its first instant, UTC
	State       State
	First, Last eventstore.Position // of its events; 0 before it is sealed, and where it has none
	Rows, Bytes int64               // at the time it was sealed; bytes with indexes
	Digest      []byte
	Archive     string // the manifest and its SHA-256
	ChangedAt   time.Time
	Since       time.Duration // ChangedAt, by the database's clock
	Over        bool          // it has ended, and the time for clocks that are behind, by the database's clock and this program's
	Stands      bool          // its table is there …
	Attached    bool          // … as a partition …
	Leaving     bool          // … or half detached
}

func (m registered) String() string { return m.Month.Format("2006-01") }

func (m registered) leaf() string { return "events_" + m.Month.Format("2006_01") }

func (m registered) date() string { return m.Month.Format(time.DateOnly) }

// keeper is one run: a connection of its own that holds the lock. Whatever changes the database goes through it, so that who
// loses the lock can change nothing more.
type keeper struct {
	*Months
	conn   *pgx.Conn
	waited time.Duration // for appends in flight
}

// lockTimeout is how long a statement that others would queue behind waits for its lock; it is repeated.
const lockTimeout = 50 * time.Millisecond

// alone runs f while no other process looks after the log's months, or returns [ErrBusy].
func (m *Months) alone(ctx context.Context, f func(*keeper) error) error {
	pooled, err := m.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	conn := pooled.Hijack() // its session is changed
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, _ = conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`) // the server would take a moment to notice the end
		_ = conn.Close(ctx)
	}()
	var mine bool
	err = conn.QueryRow(ctx, m.quoted.SQL(`SELECT pg_try_advisory_lock('{{schema}}.months'::regclass::oid::integer, 1), '{{schema}}.partition_log'::regclass,
 set_config('lock_timeout', $1::text, false), set_config('default_transaction_isolation', 'read committed', false),
 set_config('client_encoding', 'UTF8', false), set_config('timezone', 'UTC', false),
 (SELECT count(set_config(name, '0', false)) FROM pg_settings WHERE name IN
  ('statement_timeout', 'transaction_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout'))`), // a step may take hours
		fmt.Sprint(lockTimeout.Milliseconds())).Scan(&mine, nil, nil, nil, nil, nil, nil)
	switch {
	case pg.Code(err) == pg.UndefinedTable:
		return fmt.Errorf("%w: Store.Migrate or Months.Migrate has not run: %w", eventstore.ErrSchemaMissing, err)
	case err != nil:
		return err
	case !mine:
		return ErrBusy
	}
	return f(&keeper{Months: m, conn: conn})
}

// list reads the registry.
func (k *keeper) list(ctx context.Context) ([]registered, error) { return k.Months.list(ctx, k.conn) }

func (m *Months) list(ctx context.Context, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
},
) ([]registered, error) {
	rows, err := db.Query(ctx, m.sql["list"], m.config.MaxClockSkew)
	if err != nil {
		return nil, err
	}
	months, err := pgx.CollectRows(rows, pgx.RowToStructByPos[registered])
	for i := range months {
		months[i].Month = months[i].Month.UTC()
		// A month that is sealed stays so: one clock that jumps ahead is not enough to say that it is over.
		months[i].Over = months[i].Over && !time.Now().Before(months[i].Month.AddDate(0, 1, 0).Add(m.config.MaxClockSkew))
	}
	return months, err
}

func (k *keeper) find(ctx context.Context, month time.Time) (registered, error) {
	months, err := k.list(ctx)
	if err != nil {
		return registered{}, err
	}
	for _, m := range months {
		if m.Month.Equal(firstOf(month)) {
			return m, nil
		}
	}
	return registered{}, fmt.Errorf("month %s: %w", month.UTC().Format("2006-01"), ErrNoMonth)
}

func firstOf(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// mark moves a month from one state to another, or fails with errMoved.
func (k *keeper) mark(ctx context.Context, tx pg.DB, m registered, to State) error {
	tag, err := tx.Exec(ctx, k.sql["mark"], m.date(), string(m.State), string(to))
	if err == nil && tag.RowsAffected() == 0 {
		err = errMoved
	}
	return err
}

// on fills a month's leaf into a statement of sql/.
func (m *Months) on(month registered, name string) string {
	return strings.ReplaceAll(m.sql[name], "{{leaf}}", month.leaf())
}

// lockTries and its pauses bound how often a lock is asked for: about a minute, and ten where nobody queues behind it.
const lockTries = 120

// patiently repeats what did not get its lock within lockTimeout: between tries, those who waited behind it go on.
func (k *keeper) patiently(ctx context.Context, what string, f func() error) error {
	for try := 1; ; try++ {
		err := f()
		if pg.Code(err) != pg.LockNotAvailable && pg.Code(err) != pg.DeadlockDetected {
			return err
		}
		if try == lockTries {
			return fmt.Errorf("%w: %s: no lock after %d tries: %w", ErrNotYet, what, try, err)
		}
		if err := sleep(ctx, 10*lockTimeout); err != nil {
			return err
		}
	}
}

// unhurried runs f with locks that nobody queues behind: a wait of some seconds has autovacuum make way.
func (k *keeper) unhurried(ctx context.Context, what string, f func() error) error {
	const set = `SELECT set_config('lock_timeout', $1::text, false)`
	if _, err := k.conn.Exec(ctx, set, "5s"); err != nil {
		return err
	}
	err := k.patiently(ctx, what, f)
	_, reset := k.conn.Exec(ctx, set, fmt.Sprint(lockTimeout.Milliseconds()))
	return errors.Join(err, reset)
}

func sleep(ctx context.Context, pause time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}

// errMoved says that a month's state was changed by somebody who does not hold the lock.
var errMoved = errors.New("the month's state was changed by another")
