// Package eventstoretest serves tests of programs that use eventstore: a throwaway log in a schema of its own, and the
// contract of a log as a test suite.
//
// [New] takes the database from HINDSIGHT_DATABASE_URL, from a Docker engine, or from a PostgreSQL with pgvector on the
// machine, in this order; the first log of a test binary pays for starting it. Where none can be had the test fails,
// with the command to run.
package eventstoretest

import (
	"context"
	"errors"
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
	log, err := Open(context.Background(), config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := log.Close(context.Background()); err != nil {
			tb.Errorf("removing the log: %v", err)
		}
	})
	return log
}

// Open is [New] for programs without a testing.TB, such as testable examples. The caller closes the log.
func Open(ctx context.Context, config eventstore.Config) (*Log, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	database, err := devdb.Shared(ctx)
	if err != nil {
		return nil, err
	}
	return openAt(ctx, database.URL, config)
}

func openAt(ctx context.Context, url string, config eventstore.Config) (*Log, error) {
	config.Schema = schemaName()
	pool, err := openPool(ctx, url)
	if err != nil {
		return nil, err
	}
	log := &Log{Pool: pool}
	if log.Store, err = eventstore.New(pool, config); err == nil {
		err = log.Migrate(ctx)
	}
	if err == nil && config.Clock != nil {
		_, err = pool.Exec(ctx, `INSERT INTO `+config.Schema+`.settings (name, value) VALUES ('test_clock', 'on')`)
	}
	if err != nil {
		pool.Close()
		return nil, err
	}
	return log, nil
}

// closeTimeout bounds the wait for what a test has left open: long, as removing a schema takes a busy machine its time.
const closeTimeout = time.Minute

// Close removes the log's schema and closes its pool. A transaction that was left open makes it an error, after a minute.
func (l *Log) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	_, err := l.Pool.Exec(ctx, `DROP SCHEMA IF EXISTS `+l.Schema()+` CASCADE`)
	return errors.Join(err, closePool(ctx, l.Pool))
}

// closePool closes a pool, which waits for every connection in use, but not for ever.
func closePool(ctx context.Context, pool *pgxpool.Pool) error {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		pool.Close()
	}()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return errors.New("connections of the pool are still in use: was a transaction left open?")
	}
}

// Pool connects to a database for the length of the test, with an empty search_path and the changes given.
func Pool(tb testing.TB, url string, changes ...func(*pgxpool.Config)) *pgxpool.Pool {
	tb.Helper()
	pool, err := openPool(context.Background(), url, changes...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if err := closePool(ctx, pool); err != nil {
			tb.Error(err)
		}
	})
	return pool
}

func openPool(ctx context.Context, url string, changes ...func(*pgxpool.Config)) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.RuntimeParams["search_path"] = ""
	config.MaxConns = max(config.MaxConns, 32)
	for _, change := range changes {
		change(config)
	}
	return pgxpool.NewWithConfig(ctx, config)
}

// schemaName tells by its time which test run left a schema behind, should one be killed.
func schemaName() string {
	id := strings.ReplaceAll(uuid.NewString(), "-", "")
	return fmt.Sprintf("hindsight_test_%s_%s", time.Now().UTC().Format("20060102150405"), id[:10])
}
