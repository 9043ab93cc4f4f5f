package projection

import (
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
)

// Batch is a run of events for one shard of a projection, in position order.
type Batch struct {
	Projection string
	Version    int
	Shard      int
	// Events are decoded by the store's codec.
	Events []eventstore.Recorded
	// Prepared is what a [Preparer] leaves for Apply.
	Prepared any

	tables      map[string]string
	identifiers map[string]pgx.Identifier
}

// Table is the quoted name of one of the projection's tables, for SQL. It panics for a table that the Spec does not name.
func (b *Batch) Table(name string) string {
	table, ok := b.tables[name]
	if !ok {
		panic(fmt.Sprintf("projection %s: its Spec names no table %q", b.Projection, name))
	}
	return table
}

// Position is that of the last event.
func (b *Batch) Position() eventstore.Position { return b.Events[len(b.Events)-1].Position }
