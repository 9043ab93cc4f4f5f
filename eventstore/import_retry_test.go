package eventstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// loseRaces makes a log's first inserts into a table fail as if a lock had not been had in time.
func loseRaces(t *testing.T, log testLog, table, times string) {
	t.Helper()
	log.exec(t, `CREATE SEQUENCE {{schema}}.tries`)
	log.exec(t, `CREATE FUNCTION {{schema}}.lose() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('{{schema}}.tries') <= `+times+` THEN
        RAISE EXCEPTION 'lost a race' USING ERRCODE = 'lock_not_available';
    END IF;
    RETURN NULL;
END $$`)
	log.exec(t, `CREATE TRIGGER lose AFTER INSERT ON {{schema}}.`+table+` FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.lose()`)
}

func keptEvents(first eventstore.Position, n int) []eventstore.Imported {
	events := make([]eventstore.Imported, n)
	for i := range events {
		events[i] = imported("kept-1", time.Date(2024, 3, 5, 0, 0, 0, 0, time.UTC), "x")
		events[i].Position, events[i].Version = first+eventstore.Position(i), eventstore.Version(i+1)
	}
	return events
}

// A try that failed leaves nothing behind for the next: where another run has written the batch meanwhile, the sequence
// stays where it is.
func TestAKeptBatchThatAnotherRunWroteMovesNothing(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	loseRaces(t, log, "events", "1")
	events, config := keptEvents(1000, 1), eventstore.ImportConfig{KeepPositions: true}
	var between eventstore.Receipt
	pool := eventstoretest.Pool(t, log.Pool.Config().ConnString(), func(c *pgxpool.Config) {
		c.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) {
			var tries int
			err := log.Pool.QueryRow(ctx, log.sql(`SELECT coalesce(pg_sequence_last_value('{{schema}}.tries'), 0)`)).Scan(&tries)
			if err == nil && tries == 1 { // before the second try
				if _, err = log.Import(ctx, sourceOf(events...), config); err == nil {
					between, err = log.Append(ctx, "c-1", eventstore.NoStream, note{"c"})
				}
			}
			return true, err
		}
	})
	report, err := log.store(t, pool, eventstore.Config{}).Import(ctx, sourceOf(events...), config)
	require.NoError(t, err)
	require.Equal(t, eventstore.ImportCounts{Existing: 1}, report.ImportCounts)
	require.Zero(t, report.Position, "this run wrote nothing")
	require.EqualValues(t, 1001, between.Position())
	require.NoError(t, log.CheckSchema(ctx))
	require.EqualValues(t, 1002, log.append(t, "d-1", eventstore.NoStream, note{"d"}).Position())
}

// The database itself refuses to move the sequence back, or to leave it where it is.
func TestPositionsAreNeverMovedBack(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	log.exec(t, `CREATE FUNCTION {{schema}}.burn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM setval('{{schema}}.events_position_seq', 5000);
    RETURN NULL;
END $$`)
	log.exec(t, `CREATE TRIGGER burn AFTER INSERT ON {{schema}}.events FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.burn()`)
	_, err := log.Import(ctx, sourceOf(keptEvents(1000, 3)...), eventstore.ImportConfig{KeepPositions: true})
	require.ErrorIs(t, err, eventstore.ErrSequence)
	for _, last := range []int{1002, 5000} {
		_, err = log.Pool.Exec(ctx, log.sql(`SELECT {{schema}}.move_positions($1)`), last)
		require.ErrorContains(t, err, "HS001")
	}
	log.exec(t, `DROP TRIGGER burn ON {{schema}}.events`)
	require.EqualValues(t, 5001, log.append(t, "a-1", eventstore.NoStream, note{"a"}).Position())
}

// A transaction that has read where the log ends and stays open makes a batch with kept positions wait, and at last fail;
// other readers wait for it now and then only.
func TestAnOpenReaderDelaysKeptPositions(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	events, config := keptEvents(1000, 3), eventstore.ImportConfig{KeepPositions: true}
	open, err := log.Pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	require.NoError(t, err)
	defer func() { _ = open.Rollback(context.WithoutCancel(ctx)) }() // where the test fails
	_, err = log.WithTx(open).Settled(ctx)
	require.NoError(t, err)
	importing, started := make(chan error, 1), time.Now()
	go func() {
		_, err := log.Import(ctx, sourceOf(events...), config)
		importing <- err
	}()
	var waited time.Duration
	for failed := false; !failed; {
		select {
		case err = <-importing:
			failed = true
		case <-time.After(50 * time.Millisecond):
			at := time.Now()
			_, err := log.Settled(ctx)
			require.NoError(t, err)
			waited += time.Since(at)
		}
	}
	t.Logf("it gave up after %s; another reader waited %s of these", time.Since(started), waited)
	require.ErrorIs(t, err, eventstore.ErrSerialization)
	require.True(t, eventstore.Retryable(err))
	require.Less(t, waited, time.Since(started)/2)

	go func() {
		_, err := log.Import(ctx, sourceOf(events...), config)
		importing <- err
	}()
	awaitTwoTries(ctx, t, log, `".move_positions(`)
	require.NoError(t, open.Commit(ctx))
	require.NoError(t, <-importing)
	require.EqualValues(t, 1003, log.append(t, "kept-1", eventstore.AtVersion(3), note{"x"}).Position())
}

// The pause between two tries ends with the context.
func TestImportPausesUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	loseRaces(t, log, "events", "1000")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := log.Import(ctx, sourceOf(oldEvents(1)...), eventstore.ImportConfig{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// A month whose making lost a race is made again; where it never can be, the error says what is missing.
func TestImportMakesMonthsAgain(t *testing.T) {
	t.Parallel()
	t.Run("in the end", func(t *testing.T) {
		t.Parallel()
		log := newLog(t, eventstore.Config{})
		loseRaces(t, log, "months", "2")
		events := oldEvents(20)
		_, err := log.Import(testContext(t, time.Minute), sourceOf(events...), eventstore.ImportConfig{})
		require.NoError(t, err)
		requireLog(t, log, events)
	})
	t.Run("never", func(t *testing.T) {
		t.Parallel()
		log := newLog(t, eventstore.Config{})
		loseRaces(t, log, "months", "1000")
		_, err := log.Import(testContext(t, time.Minute), sourceOf(oldEvents(20)...), eventstore.ImportConfig{})
		require.ErrorIs(t, err, eventstore.ErrMonthMissing)
		require.True(t, eventstore.Retryable(err))
		var tries int
		require.NoError(t, log.Pool.QueryRow(t.Context(), log.sql(`SELECT last_value FROM {{schema}}.tries`)).Scan(&tries))
		require.Equal(t, 10, tries)
	})
	t.Run("no matter of time", func(t *testing.T) {
		t.Parallel()
		log := newLog(t, eventstore.Config{})
		log.exec(t, `ALTER TABLE {{schema}}.months ADD CHECK (month >= '2024-02-01') NOT VALID`)
		started := time.Now()
		_, err := log.Import(testContext(t, time.Minute), sourceOf(oldEvents(20)...), eventstore.ImportConfig{})
		require.ErrorIs(t, err, eventstore.ErrMonthMissing)
		require.False(t, eventstore.Retryable(err))
		require.Less(t, time.Since(started), 5*time.Second, "it is not repeated")
	})
}

// Where the session ends in the commit, nobody knows: the rerun finds out, and each event is there once.
func TestImportWhoseCommitIsCut(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	log.exec(t, `CREATE FUNCTION {{schema}}.cut() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_terminate_backend(pg_backend_pid());
    RETURN NULL;
END $$`)
	log.exec(t, `CREATE CONSTRAINT TRIGGER cut AFTER UPDATE ON {{schema}}.imports DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
   WHEN (NEW.batches = 3) EXECUTE FUNCTION {{schema}}.cut()`)
	events, config := oldEvents(100), eventstore.ImportConfig{Name: "cut", BatchEvents: 20}
	report, err := log.Import(ctx, sourceOf(events...), config)
	require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown)
	require.False(t, eventstore.Retryable(err))
	require.EqualValues(t, 40, report.Events, "the batches before")
	log.exec(t, `DROP TRIGGER cut ON {{schema}}.imports`)
	report, err = log.Import(ctx, sourceOf(events...), config)
	require.NoError(t, err)
	require.EqualValues(t, 100, report.Total.Events)
	requireLog(t, log, events)
}

// Months of imports are made whatever a log's test clock is set to, and the setting stays as it was.
func TestMonthsAreMadeWithTheTestClockOff(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"off", "on"} {
		t.Run(value, func(t *testing.T) {
			t.Parallel()
			log := newLog(t, eventstore.Config{})
			log.exec(t, `INSERT INTO {{schema}}.settings (name, value) VALUES ('test_clock', '`+value+`')`)
			_, err := log.Import(testContext(t, time.Minute), sourceOf(oldEvents(20)...), eventstore.ImportConfig{})
			require.NoError(t, err)
			var after string
			require.NoError(t, log.Pool.QueryRow(t.Context(), log.sql(`SELECT value FROM {{schema}}.settings WHERE name = 'test_clock'`)).Scan(&after))
			require.Equal(t, value, after)
		})
	}
}

// What two imports left out, each keeps under its own name.
func TestSkipsOfTwoImports(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	event := oldEvents(1)[0]
	event.Skip = "a test"
	for _, name := range []string{"one", "two"} {
		_, err := log.Import(ctx, sourceOf(event), eventstore.ImportConfig{Name: name})
		require.NoError(t, err)
	}
	var names []string
	require.NoError(t, log.Pool.QueryRow(ctx, log.sql(`SELECT array_agg(import ORDER BY import) FROM {{schema}}.import_skips`)).Scan(&names))
	require.Equal(t, []string{"one", "two"}, names)
	missing, err := log.NotImported(ctx, []uuid.UUID{event.Event.ID}, nil)
	require.NoError(t, err)
	require.Empty(t, missing)
}

// A position so high that appends could not go on above it is refused.
func TestImportRefusesPositionsWithoutRoomAbove(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := testContext(t, time.Minute)
	config := eventstore.ImportConfig{KeepPositions: true}
	_, err := log.Import(ctx, sourceOf(keptEvents(1<<62+1, 1)...), config)
	var invalid *eventstore.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, "position", invalid.Field)
	_, err = log.Import(ctx, sourceOf(keptEvents(1<<62, 1)...), config)
	require.NoError(t, err)
	require.EqualValues(t, 1<<62+1, log.append(t, "kept-1", eventstore.AtVersion(1), note{"x"}).Position())
	require.Len(t, eventstoretest.Collect(t, log.All(ctx, 0, eventstore.Filter{})), 2)
}
