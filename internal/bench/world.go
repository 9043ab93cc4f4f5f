package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/devdb"
)

// scale says how large the benchmarks are.
type scale struct {
	rounds int
	round  time.Duration // of the raw side of an append row; the number of appends follows from it
	warm   int           // appends of each caller before

	importEvents int // a round

	readEvents   int // of the log that is read
	streamEvents int // of each stream that is read
	streamReads  int // a round
	longEvents   int // of a stream that has snapshots
	longEvery    int // events between two of them

	loadRounds int
	loadRound  time.Duration // at loadRate
	loadRate   int           // appends a second
	idle       int           // appends
	idleGap    time.Duration // on average between two of them
	polls      int           // a round
	locks      int           // that a stranger holds

	months      int
	monthEvents int
	appends     int // a round, for the time of a single one

	archiveEvents int // of the month that is archived
	archiveRounds int
	stallEvents   int // of the month that comes and goes
	stallRound    time.Duration
}

// full is the scale of published figures: ten minutes or so in all.
func full() scale {
	return scale{
		rounds: 11, round: 800 * time.Millisecond, warm: 20,
		importEvents: 30_000,
		readEvents:   200_000, streamEvents: 100, streamReads: 300,
		longEvents: 10_050, longEvery: 100,
		loadRounds: 2, loadRound: 5 * time.Second, loadRate: 500, idle: 60, idleGap: 500 * time.Millisecond,
		polls: 200, locks: 5000,
		months: 24, monthEvents: 50_000, appends: 450,
		archiveEvents: 1_000_000, archiveRounds: 3, stallEvents: 5000, stallRound: 5 * time.Second,
	}
}

// serverSettings are durable, and keep checkpoints out of the measured rounds.
func serverSettings() map[string]string {
	return map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on",
		"shared_buffers": "512MB", "max_wal_size": "4GB", "checkpoint_timeout": "30min", "max_connections": "300",
	}
}

// world is what the benchmarks run in.
type world struct {
	cluster *devdb.Cluster
	admin   *pgxpool.Pool // for preparing and checking, never measured
	size    scale
	filled  map[string]*filledLog // shared by rows, by name
}

func newWorld(ctx context.Context, size scale) (*world, error) {
	cluster, err := devdb.StartCluster(ctx, serverSettings())
	if err != nil {
		return nil, err
	}
	w := &world{cluster: cluster, size: size, filled: map[string]*filledLog{}}
	if w.admin, err = w.pool(ctx, 4); err != nil {
		return nil, errors.Join(err, cluster.Close())
	}
	return w, nil
}

func (w *world) close() error {
	w.admin.Close()
	return w.cluster.Close()
}

// pool makes a pool of so many connections; both sides get theirs from here.
func (w *world) pool(ctx context.Context, connections int) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(w.cluster.URL())
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(connections)
	config.ConnConfig.DefaultQueryExecMode = execMode
	return pgxpool.NewWithConfig(ctx, config)
}

// describe prints what the figures depend on, and refuses a server that would not survive a crash.
func (w *world) describe(ctx context.Context, out io.Writer) error {
	var version, fsync, commit, pages, settings string
	err := w.admin.QueryRow(ctx, `
SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit'),
       current_setting('full_page_writes'),
       (SELECT string_agg(name || '=' || current_setting(name), ' ' ORDER BY name) FROM pg_settings
         WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'wal_sync_method', 'shared_buffers',
                        'max_wal_size', 'checkpoint_timeout', 'autovacuum'))`).
		Scan(&version, &fsync, &commit, &pages, &settings)
	if err != nil {
		return fmt.Errorf("asking the server for its settings: %w", err)
	}
	if fsync != "on" || commit != "on" || pages != "on" {
		return fmt.Errorf("the server is not durable: %s", settings)
	}
	say(out, "%s/%s, %d cores, %s, PostgreSQL %s\n%s\n",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), version, settings)
	return w.describeDisk(ctx, out)
}

// describeDisk prints how long the disk below the server takes to keep a WAL page: the floor of every commit.
func (w *world) describeDisk(ctx context.Context, out io.Writer) error {
	if w.cluster.BinDir() == "" {
		say(out, "the server runs in a container: its disk was not measured\n\n")
		return nil
	}
	var dir string
	if err := w.admin.QueryRow(ctx, `SHOW data_directory`).Scan(&dir); err != nil {
		return fmt.Errorf("asking for the data directory: %w", err)
	}
	times, err := syncTimes(ctx, filepath.Dir(dir))
	if err != nil {
		return fmt.Errorf("measuring the disk: %w", err)
	}
	say(out, "write of 8 kB and %s on its disk: median %.3f ms, p99 %.3f ms\n\n", syncName, median(times), percentile(times, 99))
	return nil
}

// twin is a log of the library and, in a schema beside it, tables of the same layout for the raw side.
type twin struct {
	world  *world
	schema string
	raw    rawLog
}

// newTwin makes an empty twin, named after the row it serves.
func (w *world) newTwin(ctx context.Context, name string) (*twin, error) {
	t, err := w.newLog(ctx, name)
	if err != nil {
		return nil, err
	}
	return t, t.addRaw(ctx)
}

// newLog makes the library's half of a twin.
func (w *world) newLog(ctx context.Context, name string) (*twin, error) {
	schema := strings.ReplaceAll(name, ".", "_")
	t := &twin{world: w, schema: schema, raw: rawLog{schema: schema + "_raw"}}
	store, err := t.store(w.admin, nil)
	if err != nil {
		return nil, err
	}
	return t, store.Migrate(ctx)
}

// addRaw makes the other half, with the rows that the log holds.
func (t *twin) addRaw(ctx context.Context) error {
	if _, err := t.world.admin.Exec(ctx, t.raw.tables(t.schema)); err != nil {
		return fmt.Errorf("making the raw tables: %w", err)
	}
	return nil
}

func (t *twin) store(pool *pgxpool.Pool, codec *eventstore.Codec) (*eventstore.Store, error) {
	return eventstore.New(pool, eventstore.Config{Schema: t.schema, Codec: codec})
}

// sameRows makes sure that both sides did the same work.
func (t *twin) sameRows(ctx context.Context) error {
	var ours, raw int64
	err := t.world.admin.QueryRow(ctx,
		`SELECT (SELECT count(*) FROM `+t.schema+`.events), (SELECT count(*) FROM `+t.raw.schema+`.events)`).Scan(&ours, &raw)
	if err != nil {
		return fmt.Errorf("counting the rows: %w", err)
	}
	if ours != raw {
		return fmt.Errorf("the sides are not comparable: the library wrote %d rows, the raw code %d", ours, raw)
	}
	return nil
}

func writeJSON(file string, rows []row) error {
	text, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
