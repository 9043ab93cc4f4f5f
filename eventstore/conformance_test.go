package eventstore_test

import (
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
func TestConformanceOfOddConnections(t *testing.T) {
	t.Parallel()
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
				pool := eventstoretest.Pool(tb, log.Pool.Config().ConnString(), func(c *pgxpool.Config) { change(c.ConnConfig) })
				config.Schema = log.Schema()
				store, err := eventstore.New(pool, config)
				require.NoError(tb, err)
				return &eventstoretest.Log{Store: store, Pool: pool}
			})
		})
	}
}
