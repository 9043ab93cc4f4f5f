package vectorsearch

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
	"github.com/sight-platform/hindsight/projection"
)

// Config of an [Index]. Only Embedder is needed.
type Config struct {
	// Embedder turns texts into vectors.
	Embedder Embedder
	// Recipe says what of an event is searched. Defaults to [Discussions].
	Recipe Recipe
	// Name of the projection and of its tables, up to 20 lower-case letters, digits and underscores. Defaults to "search".
	Name string
	// Version of the tables: another model or recipe needs another one, which is built beside the old one. Defaults to 1.
	Version int
	// Language of texts and queries that name none, BCP 47. Defaults to "en".
	Language string
	// Shards is how many workers can share the work, each with calls to the embedder of its own. Defaults to 1.
	Shards int
	// KeepMonths is how many months before the present one Maintain keeps, whatever becomes of the log's. Defaults to all.
	KeepMonths int
	// MaxParkedKeys is how many streams may be parked before indexing stops. Defaults to 100.
	MaxParkedKeys int
}

// Index keeps the passages of a log with their vectors. It is a [projection.Projection]: give it to [projection.New]. Its
// methods are safe for concurrent use.
type Index struct {
	store  *eventstore.Store
	config Config
	model  Model
	names  *strings.Replacer // of tables and the like, in SQL
	kept   kept

	estimates estimates

	mu     sync.Mutex
	ready  bool               // the tables are of this model and recipe
	months map[time.Time]bool // partitions that are there
	vector vectorExtension
	world  *world // as it was last seen
	prefix *bool  // Polish words are as they are
}

// New makes an index over a store. It neither connects nor creates anything. Errors match [eventstore.ErrInvalid] or
// [eventstore.ErrNoPool].
func New(store *eventstore.Store, config Config) (*Index, error) {
	if store.Pool() == nil {
		return nil, eventstore.ErrNoPool
	}
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	model := config.Embedder.Model()
	if err := model.validate(); err != nil {
		return nil, err
	}
	x := &Index{store: store, config: config, model: model.withDefaults(), months: map[time.Time]bool{}}
	x.names = x.replacer()
	return x, nil
}

func (c Config) withDefaults() Config {
	if c.Recipe.Passages == nil && c.Recipe.Version == 0 {
		c.Recipe = Discussions()
	}
	if c.Name == "" {
		c.Name = "search"
	}
	if c.Version == 0 {
		c.Version = 1
	}
	if c.Language == "" {
		c.Language = "en"
	}
	if c.Shards == 0 {
		c.Shards = 1
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Embedder == nil:
		return invalid("Config.Embedder", "is nil")
	case c.Recipe.Passages == nil || c.Recipe.Version < 1 || len(c.Recipe.Types) == 0 || slices.Contains(c.Recipe.Types, ""):
		return invalid("Config.Recipe", "needs a Version from 1 on, Types and Passages")
	case !regexp.MustCompile(`^[a-z_][a-z0-9_]{0,19}$`).MatchString(c.Name):
		return invalid("Config.Name", fmt.Sprintf("%q is not made of up to 20 lower-case letters, digits and underscores", c.Name))
	case c.Version < 1:
		return invalid("Config.Version", "is negative")
	case baseLanguage(c.Language) == "" || checkText(c.Language) != "":
		return invalid("Config.Language", fmt.Sprintf("%q is no language", c.Language))
	case c.KeepMonths < 0:
		return invalid("Config.KeepMonths", "is negative")
	}
	return nil // the rest is the projection's to say
}

// Migrate makes the extension, where it is not there and the role may, and what queries need beside the tables. Call it before
// [projection.Runner.Migrate] or Run, which make the tables. Any number of processes may run it at once. Errors match
// [ErrExtension] where the server has no pgvector or too old a one, and [eventstore.ErrNotAllowed].
func (x *Index) Migrate(ctx context.Context) error {
	if err := x.store.CheckSchema(ctx); err != nil {
		return err
	}
	_, err := extension(ctx, x.store.Pool())
	var missing *ExtensionError
	if errors.As(err, &missing) && missing.Installed == "" && missing.Available == "" || err != nil && missing == nil {
		return err
	}
	err = pg.InTx(ctx, x.store.Pool(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', '30s', true), pg_advisory_xact_lock(hashtextextended('hindsight.vectorsearch', 0))`); err != nil {
			return err
		}
		if missing != nil && missing.Installed == "" {
			if _, err := tx.Exec(ctx, x.sql(extensionSQL)); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, x.sql(polishSQL))
		return err
	})
	if pg.Code(err) == pg.InsufficientPrivilege {
		err = fmt.Errorf("%w: %w", eventstore.ErrNotAllowed, err)
	}
	if err != nil {
		return fmt.Errorf("migrating %s: %w", x.config.Name, err)
	}
	_, err = extension(ctx, x.store.Pool())
	return err
}

// Spec implements [projection.Projection].
func (x *Index) Spec() projection.Spec {
	return projection.Spec{
		Name: x.config.Name, Version: x.config.Version, Types: x.config.Recipe.Types, Tables: x.tables(), Shards: x.config.Shards,
		MaxParkedKeys: x.config.MaxParkedKeys,
	}
}

// prepared is what Prepare leaves for Apply.
type prepared struct {
	passages [][]any
	vectors  [][]any
	months   map[time.Time]*monthSum
}

// monthSum is what a batch adds to a month.
type monthSum struct {
	first, last eventstore.Position
	rows, words int64
	languages   []string
}

// piece is a chunk of a passage on its way into the tables.
type piece struct {
	Passage
	event *eventstore.Recorded
	chunk int
	hash  textHash
}

// Prepare implements [projection.Preparer]: it makes the passages and has them embedded, outside any transaction.
func (x *Index) Prepare(ctx context.Context, batch *projection.Batch) error {
	if err := x.check(ctx); err != nil {
		return err
	}
	pieces, err := x.pieces(batch.Events)
	if err != nil {
		return err
	}
	for _, p := range pieces {
		if err := x.ensureMonth(ctx, p.event.RecordedAt); err != nil {
			return err
		}
	}
	vectors, err := x.embed(ctx, batch, pieces)
	if err != nil {
		return err
	}
	projects, err := x.projectsOf(ctx, pieces)
	if err != nil {
		return err
	}
	batch.Prepared = x.rows(pieces, vectors, projects)
	return nil
}

// pieces are the chunks of the passages of events.
func (x *Index) pieces(events []eventstore.Recorded) ([]piece, error) {
	var pieces []piece
	for i := range events {
		e := &events[i]
		if x.isPast(monthOf(e.RecordedAt), time.Now()) { // Maintain would drop it again
			continue
		}
		passages, err := x.config.Recipe.Passages(*e)
		if err != nil {
			return nil, fmt.Errorf("passages of event %d: %w", e.Position, err)
		}
		chunk := 0
		for _, p := range passages {
			for _, text := range []string{p.Text, p.Project, p.Persona, p.User, p.Language} {
				if reason := checkText(text); reason != "" {
					return nil, fmt.Errorf("passages of event %d: %q %s", e.Position, text, reason)
				}
			}
			for _, text := range chunks(p.Text, x.model.MaxBytes) {
				if !hasWords(text) {
					continue
				}
				if chunk++; chunk > maxChunks {
					return nil, fmt.Errorf("passages of event %d: more than %d pieces of at most %d bytes", e.Position, maxChunks, x.model.MaxBytes)
				}
				p.Text = text
				pieces = append(pieces, piece{p, e, chunk, hashOf(text)})
			}
		}
	}
	return pieces, nil
}

const maxChunks = 10_000

// isPast says that a month is not kept.
func (x *Index) isPast(month, now time.Time) bool {
	return x.config.KeepMonths > 0 && month.Before(monthOf(now).AddDate(0, -x.config.KeepMonths, 0))
}

// projectsOf are the projects of streams, for passages that name none.
func (x *Index) projectsOf(ctx context.Context, pieces []piece) (map[eventstore.StreamID]string, error) {
	ids := map[eventstore.StreamID]bool{}
	var list []string
	for _, p := range pieces {
		if p.Project == "" && !ids[p.event.StreamID] {
			ids[p.event.StreamID] = true
			list = append(list, string(p.event.StreamID))
		}
	}
	projects := map[eventstore.StreamID]string{}
	if len(list) == 0 {
		return projects, nil
	}
	rows, err := x.store.Pool().Query(ctx, x.sql(`SELECT stream_id, project_id FROM {{schema}}.streams WHERE stream_id = ANY ($1::text[]) AND project_id IS NOT NULL`), list)
	if err != nil {
		return nil, err
	}
	type stream struct{ ID, Project string }
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[stream])
	for _, s := range found {
		projects[eventstore.StreamID(s.ID)] = s.Project
	}
	return projects, err
}

// Apply implements [projection.Projection].
func (x *Index) Apply(ctx context.Context, tx pgx.Tx, batch *projection.Batch) error {
	work, ok := batch.Prepared.(*prepared)
	if !ok || len(work.passages) == 0 {
		return nil
	}
	x.register(tx.Conn())
	err := batch.Copy(ctx, tx, x.name("passages"), passageColumns(), work.passages)
	if err == nil {
		err = batch.Copy(ctx, tx, x.name("vectors"), vectorColumns(), work.vectors)
	}
	if pg.Code(err) == pg.CheckViolation && pg.Constraint(err) == "" { // no partition: dropped since Prepare looked
		x.forget()
		return projection.Transient(err)
	}
	if err != nil {
		return err
	}
	return x.addToMonths(ctx, tx, work.months)
}
