package projection

import (
	"context"
	"fmt"
	"hash/fnv"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
)

// Projection builds tables from the log. A [Runner] hands it every event that its Spec chooses, in order, in batches.
type Projection interface {
	// Spec says what the projection is. It is asked once, by [New].
	Spec() Spec
	// Apply writes what a batch means, through tx alone: the rows and the note of how far the projection has come commit
	// together, or not at all. Name the tables by [Batch.Table]. It may be called again with the same events after any
	// failure, and for several shards at once. An error (or a panic) that is the events' own fault leads to the first event
	// that fails by itself, which is parked.
	Apply(ctx context.Context, tx pgx.Tx, batch *Batch) error
}

// Preparer is a Projection that has something to do outside, such as calling a model, before its transaction begins.
type Preparer interface {
	// Prepare may leave its results in [Batch].Prepared. It must bear being called again for the same events.
	Prepare(ctx context.Context, batch *Batch) error
}

// Spec is what a projection declares about itself.
type Spec struct {
	// Name is lower-case letters, digits and underscores, up to 40.
	Name string
	// Version of the projection's code: another one has tables and a place of its own. Defaults to 1.
	Version int
	// Types of the events it wants. Defaults to all.
	Types []string
	// Categories of the streams it wants. Defaults to all.
	Categories []string
	// Tables it owns.
	Tables []Table
	// Shards is how many workers can share its events, by a hash of Key. Each shard has events in order; between shards there
	// is none. At most 64. Defaults to 1.
	Shards int
	// Inline makes each append apply its own events, in its own transaction: see [Inline]. It has one shard.
	Inline bool
	// Key is the ordering key: events of one key are applied in order, and wait behind a parked one. It is given stored
	// events: Data is an [eventstore.Raw]. It must not depend on anything else; where it panics, the stream is the key.
	// Defaults to the stream.
	Key func(eventstore.Recorded) string
	// MaxParkedKeys is how many keys may be parked before the projection stops: many mean that not the events are wrong, but
	// the code. Defaults to 100.
	MaxParkedKeys int
}

// Table is a table that a projection owns. It stands in the log's schema as name_vN, N being the projection's version, and a
// view of the plain name shows the version that serves.
type Table struct {
	Name string
	// SQL creates it; {{table}} stands for its name. Further statements, for indexes, may follow.
	SQL string
}

const (
	maxShards            = 64
	defaultMaxParkedKeys = 100
)

func (s Spec) withDefaults() Spec {
	if s.Version == 0 {
		s.Version = 1
	}
	if s.Shards == 0 {
		s.Shards = 1
	}
	if s.MaxParkedKeys == 0 {
		s.MaxParkedKeys = defaultMaxParkedKeys
	}
	if s.Key == nil {
		s.Key = func(e eventstore.Recorded) string { return string(e.StreamID) }
	} else {
		s.Key = guardedKey(s.Key)
	}
	return s
}

// guardedKey bears what a user's Key may do: it is asked before anything could be parked.
func guardedKey(key func(eventstore.Recorded) string) func(eventstore.Recorded) string {
	return func(e eventstore.Recorded) (found string) {
		defer func() {
			if recover() != nil {
				found = string(e.StreamID)
			}
		}()
		return strings.ReplaceAll(strings.ToValidUTF8(key(e), "\uFFFD"), "\x00", "\uFFFD")
	}
}

func validName(name string) bool {
	ok, _ := regexp.MatchString(`^[a-z_][a-z0-9_]{0,39}$`, name)
	return ok
}

func (s Spec) validate() error {
	fail := func(field, reason string) error {
		return &eventstore.InvalidError{Index: -1, Field: "Spec." + field, Reason: reason}
	}
	switch {
	case !validName(s.Name):
		return fail("Name", fmt.Sprintf("%q is not made of up to 40 lower-case letters, digits and underscores", s.Name))
	case s.Version < 1 || s.Version > 1_000_000:
		return fail("Version", fmt.Sprintf("of %s is %d, they start at 1", s.Name, s.Version))
	case s.Shards < 1 || s.Shards > maxShards:
		return fail("Shards", fmt.Sprintf("of %s are %d, 1 to %d are allowed", s.Name, s.Shards, maxShards))
	case s.Inline && s.Shards > 1:
		return fail("Inline", "of "+s.Name+" does not go with several Shards")
	case s.MaxParkedKeys < 1:
		return fail("MaxParkedKeys", fmt.Sprintf("of %s is negative", s.Name))
	case slices.Contains(s.Types, "") || slices.Contains(s.Categories, ""):
		return fail("Types", "and Categories of "+s.Name+" must not hold an empty name")
	}
	seen := map[string]bool{}
	for _, table := range s.Tables {
		switch {
		case !validName(table.Name):
			return fail("Tables", fmt.Sprintf("of %s hold %q, which is not made of up to 40 lower-case letters, digits and underscores", s.Name, table.Name))
		case seen[table.Name]:
			return fail("Tables", fmt.Sprintf("of %s hold %s twice", s.Name, table.Name))
		case !strings.Contains(table.SQL, "{{table}}"):
			return fail("Tables", fmt.Sprintf("of %s: the SQL of %s does not create {{table}}", s.Name, table.Name))
		}
		seen[table.Name] = true
	}
	return nil
}

// wants says whether an event passes the filter.
func (s *Spec) wants(e *eventstore.Recorded) bool {
	return (len(s.Types) == 0 || slices.Contains(s.Types, e.Type)) &&
		(len(s.Categories) == 0 || slices.Contains(s.Categories, e.StreamID.Category()))
}

// shardOf never changes: which shard has a key is kept in the database by where each shard stands.
func (s *Spec) shardOf(key string) int {
	if s.Shards == 1 {
		return 0
	}
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(key))
	return int(hash.Sum64() % uint64(s.Shards))
}

func (s *Spec) filter() eventstore.Filter {
	return eventstore.Filter{Types: s.Types, Categories: s.Categories}
}

// physical is the table of this version.
func (s *Spec) physical(schema, table string) pgx.Identifier {
	return pgx.Identifier{schema, fmt.Sprintf("%s_v%d", table, s.Version)}
}
