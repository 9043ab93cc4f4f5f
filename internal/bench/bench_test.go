package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(followerVariable); spec != "" { // a benchmark has started us as its follower
		os.Exit(followerMain(spec))
	}
	os.Exit(m.Run())
}

// tiny is a scale at which figures mean nothing, and every line runs.
func tiny() scale {
	return scale{
		rounds: 2, round: 10 * time.Millisecond, warm: 2,
		importEvents: 100,
		readEvents:   200, streamEvents: 10, streamReads: 3,
		longEvents: 25, longEvery: 10,
		loadRounds: 1, loadRound: 100 * time.Millisecond, loadRate: 200, idle: 3, idleGap: 10 * time.Millisecond,
		polls: 10, locks: 50,
		months: 3, monthEvents: 50, appends: 5,
		archiveEvents: 500, archiveRounds: 2, stallEvents: 100, stallRound: 100 * time.Millisecond,
	}
}

func TestEveryRow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rows.json")
	var table, names bytes.Buffer
	require.NoError(t, run(t.Context(), &table, tiny(), "", file, false))
	require.NoError(t, run(t.Context(), &names, tiny(), "", "", true))

	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var rows []map[string]any
	require.NoError(t, json.Unmarshal(text, &rows))
	var measured []string
	for _, row := range rows {
		require.Len(t, row, 5, "name, value, baseline, ratio, unit")
		name := row["name"].(string)
		measured = append(measured, name)
		require.Positive(t, row["value"], name)
		require.Positive(t, row["baseline"], name)
		require.InEpsilon(t, row["value"].(float64)/row["baseline"].(float64), row["ratio"], 1e-9, name)
		require.Contains(t, []any{"events/s", "ms", "queries/s"}, row["unit"], name)
		require.Contains(t, table.String(), "\n"+name+" ")
	}
	require.Equal(t, strings.Fields(names.String()), measured)
}

func TestBothSidesDoTheSame(t *testing.T) {
	ctx := t.Context()
	w, err := newWorld(ctx, tiny())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.close()) })
	log, err := w.filledTwin(ctx, "same", filling{months: 2, events: 50, length: 10})
	require.NoError(t, err)

	t.Run("on tables of one layout", func(t *testing.T) {
		require.Equal(t, leaves(t, w, log.schema), leaves(t, w, log.raw.schema))
	})
	t.Run("with the same rows", func(t *testing.T) {
		ours, raw, closePools, err := appendLoad{callers: 3, batch: 4}.writers(ctx, log.twin)
		require.NoError(t, err)
		defer closePools()
		for _, side := range []*writers{ours, raw} {
			_, err := side.appends(ctx, 10)
			require.NoError(t, err)
		}
		const want = 2*50 + 3 + 10*4
		require.Equal(t, want, count(t, w, log.schema))
		require.Equal(t, want, count(t, w, log.raw.schema))
		require.NoError(t, log.sameRows(ctx))

		_, err = raw.appends(ctx, 1)
		require.NoError(t, err)
		require.ErrorContains(t, log.sameRows(ctx), "not comparable")
	})
	t.Run("on a log that the library finds whole", func(t *testing.T) {
		store, err := log.store(w.admin, nil)
		require.NoError(t, err)
		require.NoError(t, store.CheckSchema(ctx))
		read, err := storeReader(log.twin, w.admin, log.streams, 10)
		require.NoError(t, err)
		require.Len(t, log.streams, 2*5)
		for i := range log.streams {
			require.NoError(t, read(ctx, i))
		}
	})
}

// leaves describes the columns and constraints of each partition.
func leaves(t *testing.T, w *world, schema string) []string {
	t.Helper()
	rows, err := w.admin.Query(t.Context(), `
SELECT concat_ws(' ', c.relname, pg_get_expr(c.relpartbound, c.oid),
       (SELECT string_agg(concat_ws(' ', a.attname, a.atttypid::regtype, a.attcollation, a.attnotnull), ', ' ORDER BY a.attnum)
          FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0),
       (SELECT string_agg(pg_get_constraintdef(k.oid), ', ' ORDER BY pg_get_constraintdef(k.oid))
          FROM pg_constraint k WHERE k.conrelid = c.oid),
       (SELECT string_agg(d.def, ', ' ORDER BY d.def)
          FROM pg_index x, substring(pg_get_indexdef(x.indexrelid) FROM 'USING.*') AS d (def) WHERE x.indrelid = c.oid))
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = ($1 || '.events')::regclass ORDER BY 1`, schema)
	require.NoError(t, err)
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Len(t, found, 3) // this month, the one before, the one ahead
	require.Equal(t, 3, strings.Count(found[0], "UNIQUE"), found[0])
	return found
}

func count(t *testing.T, w *world, schema string) (rows int) {
	t.Helper()
	require.NoError(t, w.admin.QueryRow(t.Context(), `SELECT count(*) FROM `+schema+`.events`).Scan(&rows))
	return rows
}

func TestRoundsAlternate(t *testing.T) {
	order := ""
	side := func(name string, values ...float64) sample {
		return func(context.Context) (float64, error) {
			order += name
			value := values[0]
			values = values[1:]
			return value, nil
		}
	}
	found, err := interleave(t.Context(), 3, side("o", 2, 30, 4), side("r", 4, 5, 10))
	require.NoError(t, err)
	require.Equal(t, "orroor", order)
	require.Equal(t, figures{ours: 4, raw: 5, rounds: 3, low: 0.4, high: 6}, found)
}

func TestPercentile(t *testing.T) {
	values := []float64{4, 1, 3, 2}
	require.InDelta(t, 2.5, percentile(values, 50), 0)
	require.InDelta(t, 4.0, percentile(values, 99), 0)
	require.InDelta(t, 1.0, percentile(values, 25), 0)
	require.InDelta(t, 7.0, median([]float64{7}), 0)
}

func TestLockWaitsAreSeen(t *testing.T) {
	ctx := t.Context()
	w, err := newWorld(ctx, tiny())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.close()) })
	_, err = w.admin.Exec(ctx, `CREATE TABLE locked ()`)
	require.NoError(t, err)
	holder, err := w.admin.Begin(ctx)
	require.NoError(t, err)
	_, err = holder.Exec(ctx, `LOCK TABLE locked`)
	require.NoError(t, err)
	during, stop := context.WithCancel(ctx)
	waited := make(chan error, 1)
	go func() {
		_, err := w.admin.Exec(ctx, `SET lock_timeout = '30s'; TABLE locked`)
		stop()
		waited <- err
	}()
	time.AfterFunc(500*time.Millisecond, func() { _ = holder.Rollback(ctx) })
	longest, err := lockWaits(during, ctx, w.admin, 0)
	require.NoError(t, err)
	require.NoError(t, <-waited)
	require.Greater(t, longest, 10*time.Millisecond)
}

func TestTargets(t *testing.T) {
	require.Equal(t, "yes", target{ratioAtLeast, 0.9}.verdict(figures{ours: 9, raw: 10}))
	require.Equal(t, "NO", target{ratioAtLeast, 0.9}.verdict(figures{ours: 8, raw: 10}))
	require.Equal(t, "yes", target{ratioAtMost, 1.1}.verdict(figures{ours: 11, raw: 10}))
	require.Equal(t, "NO", target{ratioAtMost, 1.1}.verdict(figures{ours: 12, raw: 10}))
	require.Equal(t, "yes", target{valueAtMost, 50}.verdict(figures{ours: 50, raw: 1}))
	require.Equal(t, "NO", target{valueAtMost, 50}.verdict(figures{ours: 51, raw: 100}))
	require.Equal(t, "-", target{}.verdict(figures{ours: 1, raw: 1}))
}

func TestOnly(t *testing.T) {
	all := []benchmark{{name: "append.single.1"}, {name: "append.batch10.8"}, {name: "read.all"}}
	names := func(only string) (found []string) {
		for _, b := range choose(all, only) {
			found = append(found, b.name)
		}
		return found
	}
	require.Equal(t, []string{"append.single.1", "append.batch10.8", "read.all"}, names(""))
	require.Equal(t, []string{"append.single.1", "read.all"}, names("read, append.single"))
	require.Empty(t, names("nothing"))
	require.ErrorContains(t, run(t.Context(), os.Stdout, tiny(), "nothing", "", false), "no row's name")
}
