// Package eventstoretest serves tests of programs that use eventstore: a throwaway log in a schema of its own, and the
// contract of a log as a test suite.
//
// [New] takes the database from HINDSIGHT_DATABASE_URL, from a Docker engine, or from a PostgreSQL with pgvector on the
// machine, in this order; the first log of a test binary pays for starting it. Where none can be had the test fails,
// with the command to run.
package eventstoretest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/devdb"
)

// startTimeout bounds the wait for a database: a Docker image may have to be pulled.
const startTimeout = 5 * time.Minute

// Log is a throwaway log: a store, and the pool below it for SQL of one's own.
type Log struct {
	*eventstore.Store
	Pool *pgxpool.Pool
}

// New makes a log that the test's end removes. Config.Schema is chosen by New; everything else is taken as given, and
// Config.Clock is allowed. The pool has an empty search_path, so that SQL must name its schemas. Logs are independent:
// tests may run in parallel.
func New(tb testing.TB, config eventstore.Config) *Log {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	database, err := devdb.Shared(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	return NewAt(tb, database.URL, config)
}

// NewAt is [New] in the database that a URL names.
func NewAt(tb testing.TB, url string, config eventstore.Config) *Log {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	config.Schema = schemaName()
	log := &Log{Pool: Pool(tb, url)}
	var err error
	if log.Store, err = eventstore.New(log.Pool, config); err != nil {
		tb.Fatal(err)
	}
	if err := log.Migrate(ctx); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := log.Pool.Exec(ctx, `DROP SCHEMA IF EXISTS `+config.Schema+` CASCADE`); err != nil {
			tb.Logf("removing the log's schema: %v", err)
		}
	})
	if config.Clock != nil {
		_, err := log.Pool.Exec(ctx, `INSERT INTO `+config.Schema+`.settings (name, value) VALUES ('test_clock', 'on')`)
		if err != nil {
			tb.Fatal(err)
		}
	}
	return log
}

// Pool connects to a database for the length of the test, with an empty search_path.
func Pool(tb testing.TB, url string) *pgxpool.Pool {
	tb.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		tb.Fatal(err)
	}
	config.ConnConfig.RuntimeParams["search_path"] = ""
	config.MaxConns = max(config.MaxConns, 32)
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(pool.Close)
	return pool
}

// schemaName tells by its time which test run left a schema behind, should one be killed.
func schemaName() string {
	id := strings.ReplaceAll(uuid.NewString(), "-", "")
	return fmt.Sprintf("hindsight_test_%s_%s", time.Now().UTC().Format("20060102150405"), id[:10])
}
