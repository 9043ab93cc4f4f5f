package analytics

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection"
)

// Config of a [Star]. The zero value is the star of the vocabulary alone, with days in UTC.
type Config struct {
	// TimeZone of days and weeks: "UTC" or a name of the IANA database with a slash, such as "Europe/Warsaw", as PostgreSQL may
	// take others, such as "CET", for abbreviations, which know no summer. Defaults to "UTC". Another one needs another Version.
	TimeZone string
	// Version of the star: raise it whenever what is declared here changes; it is built anew beside the old one. Defaults to 1.
	Version int
	// Facts beside those of the vocabulary.
	Facts []Fact
	// Attributes of dimensions beside those of the vocabulary.
	Attributes []Attribute
	// Aggregates beside those of the vocabulary.
	Aggregates []Aggregate
	// Embedding makes the embedding of a persona, 768 dimensions, of the event that makes or changes it: from its payload, or by
	// a model. nil leaves the one there is. It is called outside the transaction, and only where the database has pgvector: else
	// dim_personas has no such column. Errors are those of a [projection.Preparer]; what it has made is kept until its batch is
	// through. Of several events of a persona in a batch the newest is asked, and an older one where that gives nil.
	Embedding func(context.Context, eventstore.Recorded) ([]float32, error)
	// Health weighs the parts of project_health_scores. Another one needs another Version.
	Health Weights
	// Quality is how response_quality of focus_group_effectiveness is made. Another one needs another Version.
	Quality Quality
	// Checks beside the built-in ones, or thresholds of those: see [Star.Check].
	Checks []Check
	// CheckWindow is how many of the newest positions the checks for completeness look at, and how many older ones, which runs
	// take in turn. Defaults to 100,000.
	CheckWindow eventstore.Position
	// MaxParkedKeys is that of [projection.Spec]. An event whose key was erased cannot be decoded, and is parked: a star that is
	// built anew needs as many as streams were erased, and some. Defaults to 100.
	MaxParkedKeys int
}

// Attribute declares a further column of a dimension.
type Attribute struct {
	Of     Dimension
	Column Column
	// Value is what an event says of the member that it introduces or changes. For one that does not say, such as a
	// DiscussionStarted for those it lists, it is nil, or what stands for it in a column that is NOT NULL; such a column also
	// needs a DEFAULT, for placeholders.
	Value func(eventstore.Recorded) any
}

// Star is a projection that builds the facts and the dimensions. Give it to [projection.New].
type Star struct {
	store      *eventstore.Store
	config     Config
	facts      []Fact
	aggregates []Aggregate

	agreed atomic.Bool // the tables are those that are declared

	mu      sync.Mutex // never held while the database or a model is asked
	months  map[partition]bool
	vectors map[eventstore.Position][]float32 // that the model has made, of the batch at hand
	today   time.Time                         // of the last refresh
}

// New makes a star. It neither connects nor creates anything. Errors match [eventstore.ErrInvalid] or [eventstore.ErrNoPool].
func New(store *eventstore.Store, config Config) (*Star, error) {
	if config.TimeZone == "" {
		config.TimeZone = "UTC"
	}
	if config.Version == 0 {
		config.Version = 1
	}
	if config.CheckWindow == 0 {
		config.CheckWindow = 100_000
	}
	s := &Star{store: store, config: config, months: map[partition]bool{}, vectors: map[eventstore.Position][]float32{}}
	s.facts = append(builtin(s.interactionType()), sessions())
	s.facts = append(s.facts, config.Facts...)
	s.aggregates = append(aggregates(config.Health.withDefaults(), config.Quality.withDefaults()), config.Aggregates...)
	return s, s.validate()
}

func (s *Star) validate() error {
	fail := func(field, reason string) error {
		return &eventstore.InvalidError{Index: -1, Field: "Config." + field, Reason: reason}
	}
	if s.store.Pool() == nil {
		return eventstore.ErrNoPool
	}
	if s.store.Codec() == nil {
		return &eventstore.InvalidError{Index: -1, Field: "store", Reason: "has no Codec: events that are not decoded say nothing"}
	}
	if s.config.TimeZone != "UTC" && !strings.Contains(s.config.TimeZone, "/") {
		return fail("TimeZone", fmt.Sprintf("is %q, which PostgreSQL may take for an abbreviation that knows no summer time: name a place, such as \"Europe/Warsaw\"", s.config.TimeZone))
	}
	if _, err := time.LoadLocation(s.config.TimeZone); err != nil {
		return fail("TimeZone", fmt.Sprintf("is %q, which is no name of the IANA database", s.config.TimeZone))
	}
	if s.config.Version < 1 {
		return fail("Version", "is negative")
	}
	if s.config.CheckWindow < 0 {
		return fail("CheckWindow", "is negative")
	}
	if err := validateWeights(s.config.Health, s.config.Quality); err != nil {
		return err
	}
	if err := validateOrder(s.aggregates); err != nil {
		return err
	}
	names := map[string]bool{}
	for _, a := range s.aggregates {
		if err := a.validate(); err != nil {
			return err
		}
		if names[a.Name] {
			return fail("Aggregates", "name "+a.Name+" twice")
		}
		names[a.Name] = true
	}
	for _, f := range s.facts {
		if err := f.validate(); err != nil {
			return err
		}
		if names[f.Name] {
			return fail("Facts", "name "+f.Name+" twice")
		}
		names[f.Name] = true
	}
	for _, a := range s.config.Attributes {
		known := func(c Column) bool { return c.Name == a.Column.Name }
		switch {
		case a.Of != Personas && a.Of != Users && a.Of != Projects:
			return fail("Attributes", fmt.Sprintf("hold one of %q, which is no dimension", a.Of))
		case !validName(a.Column.Name) || a.Column.Type == "" || a.Column.Comment == "" || a.Value == nil:
			return fail("Attributes", fmt.Sprintf("hold %q without a name, a Type, a Comment or a Value", a.Column.Name))
		case slices.ContainsFunc(dimensionColumns(a.Of), known) || slices.ContainsFunc(ownColumns(), known):
			return fail("Attributes", a.Column.Name+" stands in "+string(a.Of)+" already")
		}
	}
	_, err := s.checks()
	return err
}

// members are the columns of a dimension, attributes behind.
func (s *Star) members(d Dimension) []Column {
	columns := dimensionColumns(d)
	for _, a := range s.config.Attributes {
		if a.Of == d {
			columns = append(columns, a.Column)
		}
	}
	return columns
}

func (s *Star) physical(table string) string { return fmt.Sprintf("%s_v%d", table, s.config.Version) }

func (s *Star) interactionType() string {
	return quote(s.store.Schema(), s.physical("interaction_type"))
}

// Spec implements [projection.Projection]. There is one shard: the history of a dimension goes by the order of the whole log.
func (s *Star) Spec() projection.Spec {
	tables := []projection.Table{{Name: dimDate, SQL: dateSQL}}
	for _, d := range []Dimension{Projects, Users, Personas} {
		tables = append(tables, projection.Table{Name: string(d), SQL: s.dimensionSQL(d)}, projection.Table{Name: d.history(), SQL: s.historySQL(d)})
	}
	types := []string{focusgroup.TypeUserRegistered, focusgroup.TypeProjectCreated}
	for _, f := range s.facts {
		sql := f.sql(s.config.TimeZone, s.table)
		if f.Name == FactInteractions {
			sql = "DROP TYPE IF EXISTS " + s.interactionType() + ";\nCREATE TYPE " + s.interactionType() + " AS ENUM ('created', 'edited', 'discussed', 'surveyed');\n" +
				s.monthSQL() + s.declarationSQL() + sql
		}
		tables = append(tables, projection.Table{Name: f.Name, SQL: sql})
		types = append(types, f.Types...)
	}
	for _, a := range s.aggregates {
		tables = append(tables, projection.Table{Name: a.Name, SQL: a.sql()})
	}
	tables = append(tables, cohortTables()...)
	tables = append(tables, projection.Table{Name: tableDirty, SQL: dirtySQL}, projection.Table{Name: tableRefreshed, SQL: refreshedSQL})
	tables = append(tables, s.checkTables()...)
	slices.Sort(types)
	return projection.Spec{Name: "analytics", Version: s.config.Version, Types: slices.Compact(types), Tables: tables, MaxParkedKeys: s.config.MaxParkedKeys}
}

// Prepare implements [projection.Preparer]: it makes the partitions of months that are new and the embeddings of personas.
func (s *Star) Prepare(ctx context.Context, batch *projection.Batch) error {
	if err := s.agree(ctx); err != nil {
		return err
	}
	if err := s.ensureMonths(ctx, batch.Events); err != nil {
		return err
	}
	found, err := s.embed(ctx, batch.Events)
	batch.Prepared = found
	return err
}

// Apply implements [projection.Projection].
func (s *Star) Apply(ctx context.Context, tx pgx.Tx, batch *projection.Batch) error {
	load, err := s.rows(ctx, tx, batch)
	if err != nil {
		return err
	}
	if err := s.writeDimensions(ctx, tx, batch, load); err != nil {
		return err
	}
	if err := s.writeEmbeddings(ctx, tx, batch); err != nil {
		return err
	}
	for _, f := range s.facts {
		if err := batch.Copy(ctx, tx, f.Name, f.columns(), load.facts[f.Name]); err != nil {
			return err
		}
	}
	if err := s.updateSessions(ctx, tx, batch, load.dirty); err != nil {
		return err
	}
	return load.dirty.write(ctx, tx, batch)
}

// load is what a batch writes.
type load struct {
	facts   map[string][][]any
	ids     map[Dimension]map[string]bool // that facts refer to
	changes map[Dimension][]change
	years   map[int]bool
	dirty   dirty
}

// rows makes the rows of a batch.
func (s *Star) rows(ctx context.Context, tx pgx.Tx, batch *projection.Batch) (*load, error) {
	projects, err := s.projectsOf(ctx, tx, batch)
	if err != nil {
		return nil, err
	}
	l := &load{
		facts: map[string][][]any{}, changes: map[Dimension][]change{}, years: map[int]bool{}, dirty: dirty{},
		ids: map[Dimension]map[string]bool{Projects: {"": true}, Users: {"": true}, Personas: {"": true}},
	}
	for _, e := range batch.Events {
		changes, err := s.changesOf(e, projects[e.StreamID])
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", e.Position, err)
		}
		for _, c := range changes {
			l.changes[c.of] = append(l.changes[c.of], c)
		}
		for _, f := range s.facts {
			if !slices.Contains(f.Types, e.Type) {
				continue
			}
			rows, err := f.Rows(e)
			if err != nil {
				return nil, fmt.Errorf("%s of event %d: %w", f.Name, e.Position, err)
			}
			if err := l.add(f, e, rows, projects[e.StreamID]); err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

func (l *load) add(f Fact, e eventstore.Recorded, rows []Row, project string) error {
	if len(rows) > 1 && !f.Lines {
		return fmt.Errorf("%s of event %d: %d rows, and the fact has no Lines", f.Name, e.Position, len(rows))
	}
	for i, row := range rows {
		if len(row.Values) != len(f.Columns) {
			return fmt.Errorf("%s of event %d: %d values for %d columns", f.Name, e.Position, len(row.Values), len(f.Columns))
		}
		if row.Project == "" {
			row.Project = project
		}
		values := []any{int64(e.Position), e.OccurredAt, row.Project}
		if f.Lines {
			values = append(values, i+1)
		}
		l.ids[Projects][row.Project] = true
		for c, column := range f.Columns {
			if column.Of == "" {
				continue
			}
			id, ok := row.Values[c].(string)
			if !ok {
				return fmt.Errorf("%s of event %d: %s is %T, want the text of an id", f.Name, e.Position, column.Name, row.Values[c])
			}
			l.ids[column.Of][id] = true
		}
		l.dirty.fact(e.OccurredAt, row.Project)
		l.facts[f.Name] = append(l.facts[f.Name], append(values, row.Values...))
		for _, shift := range []time.Duration{-24 * time.Hour, 24 * time.Hour} { // whatever the time zone
			l.years[e.OccurredAt.Add(shift).UTC().Year()] = true
		}
	}
	return nil
}

// projectsOf are the projects of the streams, for events that do not name one.
func (s *Star) projectsOf(ctx context.Context, tx pgx.Tx, batch *projection.Batch) (map[eventstore.StreamID]string, error) {
	ids := map[string]bool{}
	for _, e := range batch.Events {
		ids[string(e.StreamID)] = true
	}
	rows, err := tx.Query(ctx, `SELECT stream_id, project_id FROM `+quote(s.store.Schema(), "streams")+` WHERE stream_id = ANY ($1::text[]) AND project_id IS NOT NULL`, keysOf(ids))
	if err != nil {
		return nil, err
	}
	type stream struct{ ID, Project string }
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[stream])
	projects := map[eventstore.StreamID]string{}
	for _, s := range found {
		projects[eventstore.StreamID(s.ID)] = s.Project
	}
	return projects, err
}
