package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/internal/devdb"
)

// Guarantee 3 beside imports: two imports of many small batches, into old months and the present one, run beside appenders;
// followers see every event once, in order. The naive reader, as control, does not.
func TestNoReaderSkipsAnImport(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, 2*time.Minute)
	polling, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema(), Codec: noteCodec(t), PageSize: 7})
	require.NoError(t, err)
	followers := []*follower{{store: log.Store}, {store: polling}}
	naive := &naiveReader{log: log}
	readers, stop := context.WithCancel(ctx)
	defer stop()
	var reading errgroup.Group
	for _, f := range followers {
		reading.Go(func() error { return f.run(readers) })
	}
	reading.Go(func() error { return naive.run(readers) })

	const events, batch = 4000, 100
	old, present := oldEvents(events), make([]eventstore.Imported, events)
	for i := range present {
		present[i] = imported(eventstore.StreamID(fmt.Sprintf("soak-%d-%d", i%4, i%5)), time.Time{}, "x") // the appenders' too
	}
	var writing errgroup.Group
	for _, source := range [][]eventstore.Imported{old, present} {
		writing.Go(func() error {
			report, err := log.Import(ctx, sourceOf(source...), eventstore.ImportConfig{BatchEvents: batch})
			if err == nil && report.Events != events {
				err = fmt.Errorf("%d of %d events imported", report.Events, events)
			}
			return err
		})
	}
	appended := soakBeside(ctx, t, log, &writing)

	want := positionsOf(eventstoretest.Collect(t, log.All(ctx, 0, eventstore.Filter{})))
	require.Len(t, want, 2*events+appended)
	for i, f := range followers {
		require.Eventually(t, func() bool { return f.count() >= len(want) }, 10*time.Second, 10*time.Millisecond, "follower %d", i)
	}
	stop()
	require.NoError(t, reading.Wait())
	for i, f := range followers {
		require.Equal(t, want, f.positions, "follower %d: every committed event once, in order", i)
		f.requireStreamOrder(t)
	}
	t.Logf("%d events, %d of them appended; the naive reader skipped %d", len(want), appended, len(want)-naive.found)
	require.Positive(t, len(want)-naive.found, "the control must fail under this load, or the load proves nothing")
}

// soakBeside appends until the imports are done, and returns how many events it appended.
func soakBeside(ctx context.Context, t *testing.T, log testLog, imports *errgroup.Group) int {
	done, cancel := context.WithCancel(ctx)
	var appended int
	var mu sync.Mutex
	var writers errgroup.Group
	for w := range 4 {
		writers.Go(func() error {
			for i := 0; done.Err() == nil; i++ {
				receipt, err := log.Append(ctx, eventstore.StreamID(fmt.Sprintf("soak-%d-%d", w, i%5)), eventstore.Any, note{"a"}, note{"b"})
				if err != nil {
					return err
				}
				mu.Lock()
				appended += len(receipt.Positions)
				mu.Unlock()
			}
			return nil
		})
	}
	importing := imports.Wait()
	cancel()
	require.NoError(t, writers.Wait())
	require.NoError(t, importing)
	return appended
}

// A head row that an append holds is waited for; a lock that is not had in time is tried again.
func TestImportWaitsForAnAppend(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	holder, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = log.WithTx(holder).Append(ctx, "held-1", eventstore.NoStream, note{"first"})
	require.NoError(t, err)
	importing := make(chan error, 1)
	go func() {
		_, err := log.Import(ctx, sourceOf(imported("free-1", time.Time{}, "x"), imported("held-1", time.Time{}, "second")), eventstore.ImportConfig{})
		importing <- err
	}()
	// Two different waiters: the first try has given up, and let go of free-1 meanwhile.
	awaitTwoTries(ctx, t, log, `".streams AS s`)
	require.NoError(t, holder.Commit(ctx))
	require.NoError(t, <-importing)
	stream := eventstoretest.Collect(t, log.Stream(ctx, "held-1", 0))
	require.Len(t, stream, 2)
	require.Equal(t, note{"second"}, stream[1].Data)
	require.False(t, stream[1].RecordedAt.Before(stream[0].RecordedAt))
}

// awaitTwoTries waits until two transactions, one after the other, have waited for a lock with a statement of the log that
// holds a text.
func awaitTwoTries(ctx context.Context, t *testing.T, log testLog, text string) {
	t.Helper()
	var first, now string
	for range 2 {
		require.Eventually(t, func() bool { // not with require: it would end the condition's goroutine only
			err := log.Pool.QueryRow(ctx, `
SELECT coalesce(max(xact_start::text), '') FROM pg_stat_activity
 WHERE wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%'`, log.Schema()+text).Scan(&now)
			return err == nil && now != "" && now != first
		}, 20*time.Second, 10*time.Millisecond)
		first = now
	}
}

// An import has the append's last line of defence, too: a position below its fence is never written.
func TestImportBelowItsFenceFails(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	log.exec(t, `ALTER SEQUENCE {{schema}}.events_position_seq CACHE 10`)
	// Direct: one session for all of the store's transactions, and for nobody else's.
	one := eventstoretest.Pool(t, directURL(t), func(c *pgxpool.Config) { c.MinConns, c.MaxConns = 0, 1 })
	store, err := eventstore.New(one, eventstore.Config{Schema: log.Schema(), Codec: noteCodec(t)})
	require.NoError(t, err)
	_, err = store.Import(ctx, sourceOf(imported("a-1", time.Time{}, "x")), eventstore.ImportConfig{}) // its session holds back 2 to 10
	require.NoError(t, err)
	log.append(t, "b-1", eventstore.NoStream, note{"x"})
	_, err = store.Import(ctx, sourceOf(imported("a-1", time.Time{}, "x")), eventstore.ImportConfig{})
	require.ErrorIs(t, err, eventstore.ErrSequence)
	require.Len(t, eventstoretest.Collect(t, log.All(ctx, 0, eventstore.Filter{})), 2)
}

// copyOf yields a log's events with their positions.
func copyOf(events []eventstore.Recorded, shift eventstore.Position) []eventstore.Imported {
	var out []eventstore.Imported
	for _, e := range events {
		out = append(out, eventstore.Imported{
			StreamID: e.StreamID, Version: e.Version, RecordedAt: e.RecordedAt, Position: e.Position + shift,
			Event: eventstore.Event{ID: e.ID, Data: e.Data, OccurredAt: e.OccurredAt, Metadata: e.Metadata},
		})
	}
	return out
}

// A log is copied with its positions into an empty one, holes and all, while a follower reads along and an appender waits
// its turn; what is appended afterwards goes on above.
func TestImportKeepsPositions(t *testing.T) {
	t.Parallel()
	source, log := newLog(t, eventstore.Config{}), newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	for i := range 100 {
		if i%3 == 0 { // a hole
			source.exec(t, `SELECT nextval('{{schema}}.events_position_seq')`)
		}
		source.append(t, eventstore.StreamID(fmt.Sprintf("copy-%d", i%5)), eventstore.Any, note{fmt.Sprint(i)})
	}
	original := eventstoretest.Collect(t, source.All(ctx, 0, eventstore.Filter{}))
	reader := &follower{store: log.Store}
	readers, stop := context.WithCancel(ctx)
	defer stop()
	var reading errgroup.Group
	reading.Go(func() error { return reader.run(readers) })

	config := eventstore.ImportConfig{KeepPositions: true, BatchEvents: 9}
	events := copyOf(original, 0)
	report, err := log.Import(ctx, sourceOf(events...), config)
	require.NoError(t, err)
	require.Equal(t, original[99].Position, report.Position)
	require.Equal(t, original, eventstoretest.Collect(t, log.All(ctx, 0, eventstore.Filter{})))
	require.NoError(t, log.CheckSchema(ctx))
	receipt := log.append(t, "copy-0", eventstore.AtVersion(20), note{"after"})
	require.Equal(t, original[99].Position+1, receipt.Position())
	want := append(positionsOf(original), receipt.Position())
	require.Eventually(t, func() bool { return reader.count() >= len(want) }, 10*time.Second, 10*time.Millisecond)
	stop()
	require.NoError(t, reading.Wait())
	require.Equal(t, want, reader.positions)

	report, err = log.Import(ctx, sourceOf(events...), config)
	require.NoError(t, err)
	require.Equal(t, eventstore.ImportCounts{Existing: 100}, report.ImportCounts, "the same again")
	_, err = log.Import(ctx, sourceOf(copyOf(original, 1)...), config)
	require.ErrorIs(t, err, eventstore.ErrVersionDiffers, "the same at other positions")
	for name, positions := range map[string][]eventstore.Position{
		"one that is taken": {receipt.Position()}, "one below": {1}, "none": {0}, "falling": {1000, 999}, "twice": {1000, 1000},
	} {
		var refused []eventstore.Imported
		for i, p := range positions {
			event := imported(eventstore.StreamID(fmt.Sprint("refused-", i)), time.Time{}, name)
			event.Position = p
			refused = append(refused, event)
		}
		_, err = log.Import(ctx, sourceOf(refused...), config)
		require.ErrorIs(t, err, eventstore.ErrPositions, name)
		var wrong *eventstore.ImportError
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, positions[len(positions)-1], wrong.Position, name)
	}
	require.Equal(t, receipt.Position()+1, log.append(t, "copy-0", eventstore.Any, note{"nothing was burnt"}).Position())
}

// Guarantee 3 with kept positions, just above those that appends take meanwhile: they wait for the batch, and none gets a
// position of it.
func TestNoReaderSkipsKeptPositions(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, 2*time.Minute)
	reader := &follower{store: log.Store}
	readers, stop := context.WithCancel(ctx)
	defer stop()
	var reading, writing errgroup.Group
	reading.Go(func() error { return reader.run(readers) })
	const batches, size = 30, 50
	tries := 0
	writing.Go(func() error {
		for done := 0; done < batches; tries++ {
			if tries == 100*batches {
				return fmt.Errorf("%d batches in %d tries", done, tries)
			}
			last, err := lastPosition(ctx, log)
			if err != nil {
				return err
			}
			var events []eventstore.Imported
			for i := range size {
				event := imported(eventstore.StreamID(fmt.Sprintf("kept-%d", i)), time.Time{}, "x")
				event.Position = last + 50 + eventstore.Position(i)
				events = append(events, event)
			}
			_, err = log.Import(ctx, sourceOf(events...), eventstore.ImportConfig{KeepPositions: true})
			switch {
			case err == nil:
				done++
			case !errors.Is(err, eventstore.ErrPositions): // appends were quicker
				return fmt.Errorf("batch %d: %w", done, err)
			}
		}
		return nil
	})
	appended := soakBeside(ctx, t, log, &writing)
	want := positionsOf(eventstoretest.Collect(t, log.All(ctx, 0, eventstore.Filter{})))
	require.Len(t, want, batches*size+appended)
	require.True(t, slices.IsSorted(want))
	require.Len(t, slices.Compact(slices.Clone(want)), len(want), "no position twice")
	require.Eventually(t, func() bool { return reader.count() >= len(want) }, 10*time.Second, 10*time.Millisecond)
	stop()
	require.NoError(t, reading.Wait())
	require.Equal(t, want, reader.positions)
	t.Logf("%d kept in %d tries, %d appended", batches*size, tries, appended)
}

func lastPosition(ctx context.Context, log testLog) (last eventstore.Position, err error) {
	err = log.Pool.QueryRow(ctx, log.sql(`SELECT {{schema}}.last_position()`)).Scan((*int64)(&last))
	return last, err
}

// A batch with kept positions that fails in its commit leaves the sequence where it was: the rerun keeps them.
func TestKeptPositionsSurviveAFailedCommit(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	log.exec(t, `CREATE FUNCTION {{schema}}.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the commit failed'; END $$`)
	log.exec(t, `CREATE CONSTRAINT TRIGGER fail AFTER UPDATE ON {{schema}}.imports DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {{schema}}.fail()`)
	var events []eventstore.Imported
	for i := range 10 {
		event := imported("kept-1", time.Time{}, "x")
		event.Event.ID, event.Position = uuid.New(), eventstore.Position(100+i)
		events = append(events, event)
	}
	config := eventstore.ImportConfig{Name: "kept", KeepPositions: true}
	_, err := log.Import(ctx, sourceOf(events...), config)
	require.ErrorContains(t, err, "the commit failed")
	require.NotErrorIs(t, err, eventstore.ErrOutcomeUnknown)
	log.exec(t, `DROP TRIGGER fail ON {{schema}}.imports`)
	report, err := log.Import(ctx, sourceOf(events...), config)
	require.NoError(t, err)
	require.EqualValues(t, 109, report.Position)
	require.EqualValues(t, 110, log.append(t, "kept-1", eventstore.AtVersion(10), note{"x"}).Position())
}

// Sessions that are cut in the middle of a batch, at each of its steps, leave nothing of it: it is repeated, or a rerun goes on.
func TestImportSurvivesCutConnections(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	log.exec(t, `CREATE SEQUENCE {{schema}}.steps`)
	log.exec(t, `CREATE FUNCTION {{schema}}.cut() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('{{schema}}.steps') % 5 = 0 THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
    END IF;
    RETURN NULL;
END $$`)
	for _, step := range []string{"INSERT ON {{schema}}.streams", "UPDATE ON {{schema}}.imports", "INSERT ON {{schema}}.events"} {
		log.exec(t, `CREATE TRIGGER cut AFTER `+step+` FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.cut()`)
	}
	events := oldEvents(200)
	for range 50 {
		if _, err := log.Import(ctx, sourceOf(events...), eventstore.ImportConfig{Name: "cut", BatchEvents: 10}); err == nil {
			break
		}
	}
	var steps int
	require.NoError(t, log.Pool.QueryRow(ctx, log.sql(`SELECT last_value FROM {{schema}}.steps`)).Scan(&steps))
	require.Greater(t, steps, 20*3, "each cut is one more")
	requireLog(t, log, events)
}

// Imports work however a service has set up its connections.
func TestImportOnOddConnections(t *testing.T) {
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
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newLog(t, eventstore.Config{})
			ctx := testContext(t, time.Minute)
			url := log.Pool.Config().ConnString()
			if name == "serializable by default" { // a pooler in transaction mode passes no such setting on
				url = directURL(t)
			}
			pool := eventstoretest.Pool(t, url, func(c *pgxpool.Config) { change(c.ConnConfig) })
			store, err := eventstore.New(pool, eventstore.Config{Schema: log.Schema(), Codec: noteCodec(t)})
			require.NoError(t, err)
			events := versioned(oldEvents(100))
			for i := range events {
				events[i].Position = eventstore.Position(10 * (i + 1))
			}
			events[40].Skip = "a test"
			events = slices.DeleteFunc(events, func(e eventstore.Imported) bool { return e.Version > 6 && e.StreamID == events[40].StreamID })
			config := eventstore.ImportConfig{Name: "odd", BatchEvents: 30, KeepPositions: true}
			report, err := store.Import(ctx, sourceOf(events...), config)
			require.NoError(t, err)
			require.EqualValues(t, 1, report.Skipped)
			config.Name = ""
			again, err := store.Import(ctx, sourceOf(events...), config)
			require.NoError(t, err)
			require.Equal(t, report.Events, again.Existing)
			_, err = store.Import(ctx, sourceOf(imported("old-0", time.Time{}, "now")), eventstore.ImportConfig{})
			require.NoError(t, err)
			missing, err := store.NotImported(ctx, []uuid.UUID{events[0].Event.ID, uuid.Max}, []time.Time{events[0].RecordedAt, events[0].RecordedAt})
			require.NoError(t, err)
			require.Equal(t, []uuid.UUID{uuid.Max}, missing)
			got := eventstoretest.Collect(t, log.All(ctx, 0, eventstore.Filter{}))
			for i, e := range append(events[:40:40], events[41:]...) {
				require.Equal(t, e.RecordedAt, got[i].RecordedAt)
				require.Equal(t, e.Position, got[i].Position)
			}
		})
	}
}

// A batch's transaction bounds how long others wait for it, whatever its client does.
func TestImportBoundsItsTransactions(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	log.exec(t, `CREATE TABLE {{schema}}.seen (timeouts text)`)
	log.exec(t, `CREATE FUNCTION {{schema}}.look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {{schema}}.seen SELECT concat_ws(' ', current_setting('lock_timeout'), current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'));
    RETURN NULL;
END $$`)
	log.exec(t, `CREATE TRIGGER look AFTER INSERT ON {{schema}}.streams FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.look()`)
	_, err := log.Import(testContext(t, time.Minute), sourceOf(oldEvents(3)...), eventstore.ImportConfig{})
	require.NoError(t, err)
	var seen string
	require.NoError(t, log.Pool.QueryRow(t.Context(), log.sql(`SELECT string_agg(DISTINCT timeouts, ',') FROM {{schema}}.seen`)).Scan(&seen))
	require.Equal(t, "2s 1min 30s", seen)
}

// Guarantees 3 and 9 for imports: what was reported survives a crash of the server, and with it the sequence, also where
// positions were kept.
func TestImportsSurviveSIGKILL(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 2*time.Minute)
	cluster, err := devdb.StartCluster(ctx, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	open := func() *eventstore.Store {
		store, err := eventstore.New(eventstoretest.Pool(t, cluster.URL()), eventstore.Config{Codec: noteCodec(t)})
		require.NoError(t, err)
		return store
	}
	store := open()
	require.NoError(t, store.Migrate(ctx))
	events := oldEvents(100)
	for i := range events {
		events[i].Position = eventstore.Position(1000 + 3*i)
	}
	var last eventstore.Position
	for round, config := range []eventstore.ImportConfig{
		{Name: "kept", BatchEvents: 10, KeepPositions: true}, {Name: "kept", BatchEvents: 10}, // the latter has nothing left to do
		{Name: "again", BatchEvents: 10},
	} {
		if config.Name == "again" {
			for i := range events {
				events[i].StreamID, events[i].Event.ID = events[i].StreamID+"-again", uuid.New()
			}
		}
		report, err := store.Import(ctx, sourceOf(events...), config)
		require.NoError(t, err)
		require.EqualValues(t, []int64{100, 0, 100}[round], report.Events)
		last = max(last, report.Position)
		require.NoError(t, cluster.Kill())
		require.NoError(t, cluster.Start(ctx))
		store = open()
		require.NoError(t, store.CheckSchema(ctx))
		receipt, err := store.Append(ctx, eventstore.StreamID(fmt.Sprintf("after-%d", round)), eventstore.NoStream, note{"x"})
		require.NoError(t, err)
		require.Greater(t, receipt.Position(), last)
		last = receipt.Position()
	}
	require.Len(t, eventstoretest.Collect(t, store.All(ctx, 0, eventstore.Filter{})), 203)
}
