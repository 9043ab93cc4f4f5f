package eventstore_test

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// Guarantees 1, 2, 3, 5, 6 and 8 of doc.go, clause by clause.
func TestConformance(t *testing.T) {
	t.Parallel()
	eventstoretest.Conformance(t, eventstoretest.New)
}

// The contract holds however a service has set up its connections: without prepared statements, as behind a pooler, and
// with a session whose time zone and search path are its own.
//
// Two ways are direct: PgBouncer hands on no default_transaction_isolation, and a statement that is described in one round
// trip and executed in the next may meet another session there.
func TestConformanceOfOddConnections(t *testing.T) {
	t.Parallel()
	direct := []string{"serializable by default", "described each time"}
	for name, change := range map[string]func(*pgx.ConnConfig){
		"exec mode, Honolulu": func(c *pgx.ConnConfig) {
			c.DefaultQueryExecMode = pgx.QueryExecModeExec
			c.RuntimeParams["timezone"] = "Pacific/Honolulu"
		},
		"simple protocol, Auckland": func(c *pgx.ConnConfig) {
			c.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
			c.RuntimeParams["timezone"] = "Pacific/Auckland"
		},
		"serializable by default": func(c *pgx.ConnConfig) { c.RuntimeParams["default_transaction_isolation"] = "serializable" },
		"described each time":     func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eventstoretest.Conformance(t, func(tb testing.TB, config eventstore.Config) *eventstoretest.Log {
				log := eventstoretest.New(tb, config)
				url := log.Pool.Config().ConnString()
				if slices.Contains(direct, name) {
					url = directURL(tb)
				}
				pool := eventstoretest.Pool(tb, url, func(c *pgxpool.Config) { change(c.ConnConfig) })
				config.Schema = log.Schema()
				store, err := eventstore.New(pool, config)
				require.NoError(tb, err)
				return &eventstoretest.Log{Store: store, Pool: pool}
			})
		})
	}
}
