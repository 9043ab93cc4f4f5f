package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/devdb"
)

// errLeftBehind: the demo could not remove what it made.
var errLeftBehind = errors.New("something is left behind")

// run is the whole demo. What it starts and creates is gone when it returns, whatever it returns.
func run(ctx context.Context, out io.Writer, recording string) (err error) {
	page := &page{out: out}
	sources, err := openSources(recording) // before the database: a mistyped path is told at once
	if err != nil {
		return err
	}
	defer sources.close()
	database, err := devdb.Open(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if closing := database.Close(); closing != nil {
			err = errors.Join(err, fmt.Errorf("%w: stopping the database: %w", errLeftBehind, closing))
		}
	}()
	log, err := openLog(ctx, database.URL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.remove(ctx)) }()
	page.line("Database: %s", database.From)
	page.line("Schema:   %s, removed at the end", log.schema)

	first, err := showImport(ctx, page, log, sources)
	if err != nil {
		return err
	}
	if err := showReplay(ctx, page, log.store, first); err != nil {
		return err
	}
	if err := showStates(ctx, page, log.store, first); err != nil {
		return err
	}
	if err := showLive(ctx, page, log, first); err != nil {
		return err
	}
	page.line("")
	page.line("Done; removing everything the demo made.")
	return page.err
}

// demoLog is a log in a schema of its own, so that nothing in a database that is somebody's is touched.
type demoLog struct {
	schema string
	pool   *pgxpool.Pool
	store  *eventstore.Store
}

func openLog(ctx context.Context, url string) (*demoLog, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("reading the database URL: %w", err)
	}
	config.MaxConns = max(config.MaxConns, writers+4)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	id := strings.ReplaceAll(uuid.NewString(), "-", "")[:10]
	log := &demoLog{schema: "hindsight_demo_" + time.Now().UTC().Format("20060102") + "_" + id, pool: pool}
	log.store, err = eventstore.New(pool, eventstore.Config{Schema: log.schema, Codec: focusgroup.Codec()})
	if err == nil {
		err = log.store.Migrate(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making the log: %w", err), log.remove(ctx))
	}
	return log, nil
}

// remove works after a Ctrl-C too.
func (l *demoLog) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	defer l.pool.Close()
	if _, err := l.pool.Exec(ctx, `DROP SCHEMA IF EXISTS `+l.schema+` CASCADE`); err != nil {
		return fmt.Errorf("%w: removing schema %s: %w", errLeftBehind, l.schema, err)
	}
	return nil
}
