package projection

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
)

// Config of a [Runner]. Only Projections must be set.
type Config struct {
	Projections []Projection
	// Worker names this process in leases. Defaults to host, process id and a random part; it must be unique.
	Worker string
	// Lease is how long a worker that died keeps what it held, and the most that one statement of a batch may take, or a pause
	// between two. Defaults to 5 s.
	Lease time.Duration
	// MaxBatch is the largest number of events in a batch; the bytes are bounded too. Defaults to 5,000.
	MaxBatch int
	// Retries is how often a parked event is tried again by itself. Defaults to 5.
	Retries int
	// RetryAfter is the pause before the first of them; each is twice as long as the one before. Defaults to 1 s.
	RetryAfter time.Duration
	// Logger is told what goes wrong and is tried again. Defaults to none.
	Logger *slog.Logger
	Hooks  Hooks
}

func (c Config) withDefaults() Config {
	if c.Worker == "" {
		host, _ := os.Hostname() // a name for people; the random part is what makes it unique
		var random [4]byte
		_, _ = rand.Read(random[:])
		c.Worker = fmt.Sprintf("%s-%d-%s", host, os.Getpid(), hex.EncodeToString(random[:]))
	}
	if c.Lease == 0 {
		c.Lease = 5 * time.Second
	}
	if c.MaxBatch == 0 {
		c.MaxBatch = 5000
	}
	if c.Retries == 0 {
		c.Retries = 5
	}
	if c.RetryAfter == 0 {
		c.RetryAfter = time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	fail := func(field, reason string) error {
		return &eventstore.InvalidError{Index: -1, Field: "Config." + field, Reason: reason}
	}
	switch {
	case len(c.Projections) == 0:
		return fail("Projections", "are none")
	case c.Lease < 100*time.Millisecond:
		return fail("Lease", "is under 100 ms")
	case c.MaxBatch < 1 || c.MaxBatch > 100_000:
		return fail("MaxBatch", "is not within 1 and 100,000")
	case c.Retries < 0:
		return fail("Retries", "is negative")
	case c.RetryAfter < time.Millisecond:
		return fail("RetryAfter", "is under a millisecond")
	}
	return nil
}

// Runner runs projections, and is how an operator speaks with them. It is safe for concurrent use.
type Runner struct {
	store       *eventstore.Store
	pool        *pgxpool.Pool
	config      Config
	sql         queries
	projections []*projection
	progress    *progress
	catchingUp  bool // what cannot be read is an error, not waited for
}

// projection is one that a runner knows.
type projection struct {
	Projection
	spec        Spec
	tables      map[string]string // quoted
	identifiers map[string]pgx.Identifier
}

// New makes a runner. It neither connects nor creates anything. Errors match [eventstore.ErrInvalid] or
// [eventstore.ErrNoPool].
func New(store *eventstore.Store, config Config) (*Runner, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	if store.Pool() == nil {
		return nil, eventstore.ErrNoPool
	}
	sql, err := newQueries(pg.QuoteSchema(store.Schema()))
	if err != nil {
		return nil, err
	}
	r := &Runner{store: store, pool: store.Pool(), config: config, sql: sql, progress: newProgress()}
	tables := map[string]string{}
	for _, p := range config.Projections {
		known := &projection{Projection: p, spec: p.Spec().withDefaults(), tables: map[string]string{}, identifiers: map[string]pgx.Identifier{}}
		if err := known.spec.validate(); err != nil {
			return nil, err
		}
		if r.find(known.spec.Name) != nil {
			return nil, &eventstore.InvalidError{Index: -1, Field: "Config.Projections", Reason: fmt.Sprintf("hold %s twice", known.spec.Name)}
		}
		for _, table := range known.spec.Tables {
			if owner := tables[table.Name]; owner != "" {
				return nil, &eventstore.InvalidError{Index: -1, Field: "Config.Projections", Reason: fmt.Sprintf("%s and %s both own table %s", owner, known.spec.Name, table.Name)}
			}
			tables[table.Name] = known.spec.Name
			known.identifiers[table.Name] = known.spec.physical(store.Schema(), table.Name)
			known.tables[table.Name] = known.identifiers[table.Name].Sanitize()
		}
		r.projections = append(r.projections, known)
	}
	return r, nil
}

func (r *Runner) find(name string) *projection {
	for _, p := range r.projections {
		if p.spec.Name == name {
			return p
		}
	}
	return nil
}

// Run works until ctx ends, which is no error, together with every other process that runs the same projections: each has
// its share of the shards, and takes over from one that dies within Config.Lease. It makes what is missing first, as
// [Runner.Migrate] does. A database that cannot be reached is waited for. Errors are those of Migrate, or match
// [eventstore.ErrLogRewound] if the log is not the one that was read before.
func (r *Runner) Run(ctx context.Context) error {
	for pause := newBackoff(); ; {
		err := r.Migrate(ctx)
		if err == nil {
			break
		}
		if ctx.Err() == nil && !transient(err) {
			return err
		}
		r.config.Logger.WarnContext(ctx, "making the tables of projections; trying again", "err", err)
		if !pause.wait(ctx, nil) {
			return nil
		}
	}
	feed := newFeed(r.store, r.config.Logger)
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return feed.run(inner) })
	group.Go(func() error { return r.beat(inner, feed) })
	if err := group.Wait(); ctx.Err() == nil {
		return fmt.Errorf("running projections: %w", err)
	}
	return nil
}

// lease is the right to work on a shard.
type lease struct {
	Name     string
	Version  int
	Shard    int
	Epoch    int64
	GiveBack bool
}

type shardKey struct {
	name  string
	shard int
}

// beats a lease: so often it can be missed before somebody else takes over.
const beatsPerLease = 8

// beat keeps the leases, and a worker for each of them.
func (r *Runner) beat(ctx context.Context, feed *feed) error {
	holds := &holdings{runner: r, feed: feed, workers: map[shardKey]*worker{}, fatal: make(chan error, 1)}
	defer holds.leave()
	ticker := time.NewTicker(r.config.Lease / beatsPerLease)
	defer ticker.Stop()
	for {
		leases, err := r.renew(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil: // the fence guards what goes on meanwhile
			r.config.Logger.WarnContext(ctx, "renewing the leases of projections", "err", err)
		default:
			holds.update(ctx, leases)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-holds.fatal:
			return err
		case <-ticker.C:
		}
	}
}

// renew is not cut off by the end of Run: a statement that is under way would take shards again that were given back.
func (r *Runner) renew(ctx context.Context) ([]lease, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.config.Lease/4)
	defer cancel()
	names := make([]string, len(r.projections))
	versions := make([]int32, len(r.projections))
	shards := make([]int32, len(r.projections))
	for i, p := range r.projections {
		names[i], versions[i], shards[i] = p.spec.Name, int32(p.spec.Version), int32(p.spec.Shards)
	}
	rows, err := r.pool.Query(ctx, r.sql["beat"], r.config.Worker, names, versions, shards, r.config.Lease.Microseconds())
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[lease])
}

// holdings are the shards that a process works on.
type holdings struct {
	runner *Runner
	feed   *feed

	mu      sync.Mutex
	workers map[shardKey]*worker
	fatal   chan error
	running sync.WaitGroup
}

// update begins and ends work, as the leases say.
func (h *holdings) update(ctx context.Context, leases []lease) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := map[shardKey]bool{}
	for _, l := range leases {
		key := shardKey{l.Name, l.Shard}
		w := h.workers[key]
		switch {
		case w != nil && w.lease.Epoch != l.Epoch:
			w.stop() // it was somebody else's meanwhile; begin again when it has ended
		case w != nil && l.GiveBack:
			w.stop()
		case l.GiveBack: // taken, and asked back in the same beat by somebody who came meanwhile
			h.running.Go(func() { h.runner.giveBack(ctx, l) })
		case w == nil:
			h.begin(ctx, key, l)
		}
		kept[key] = true
	}
	for key, w := range h.workers {
		if !kept[key] {
			w.stop()
		}
	}
}

// begin starts a worker; the holdings are locked.
func (h *holdings) begin(ctx context.Context, key shardKey, l lease) {
	p := h.runner.find(l.Name)
	ctx, cancel := context.WithCancel(ctx)
	w := newWorker(h.runner, p, l, h.feed, cancel)
	h.workers[key] = w
	h.running.Go(func() {
		defer cancel()
		err := w.run(ctx)
		h.runner.giveBack(ctx, l)
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.workers, key)
		if h.runner.endsWith(err) {
			select {
			case h.fatal <- err:
			default:
			}
		}
	})
}

// leave stops all work, and gives everything back at once.
func (h *holdings) leave() {
	h.mu.Lock()
	for _, w := range h.workers {
		w.stop()
	}
	h.mu.Unlock()
	h.running.Wait()
	h.runner.signOff()
}

const leaveTimeout = 5 * time.Second

// giveBack frees a shard for others at once.
func (r *Runner) giveBack(ctx context.Context, l lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if _, err := r.pool.Exec(ctx, r.sql["give_back"], l.Name, l.Version, l.Shard, l.Epoch, r.config.Worker); err != nil {
		r.config.Logger.WarnContext(ctx, "giving a shard back; its lease will end", "projection", l.Name, "shard", l.Shard, "err", err)
	}
}

// signOff says that the worker is gone, so that the others' shares grow at once.
func (r *Runner) signOff() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if _, err := r.pool.Exec(ctx, r.sql["sign_off"], r.config.Worker); err != nil {
		r.config.Logger.WarnContext(ctx, "signing off", "err", err)
	}
}

// isFatal says that going on would be wrong.
func isFatal(err error) bool { return errors.Is(err, eventstore.ErrLogRewound) }

// endsWith says whether a shard's error ends the run: what is fatal; and for CatchUp that the events are archived and nothing reads them
// there, which a service that runs other projections too waits out.
func (r *Runner) endsWith(err error) bool {
	var archived *eventstore.ArchivedError
	return isFatal(err) || r.catchingUp && errors.As(err, &archived) && archived.Err == nil
}
