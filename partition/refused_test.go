package partition_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/partition"
)

// spoilt is a directory in which a test damages what was written.
type spoilt struct {
	*partition.Dir
	root string
}

func newSpoilt(t *testing.T) spoilt {
	t.Helper()
	root := t.TempDir()
	dir, err := partition.NewDir(root)
	require.NoError(t, err)
	return spoilt{dir, root}
}

func (s spoilt) change(t *testing.T, key string, change func([]byte) []byte) {
	t.Helper()
	path := filepath.Join(s.root, filepath.FromSlash(key))
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	if content = change(content); content == nil {
		require.NoError(t, os.Remove(path))
		return
	}
	require.NoError(t, os.WriteFile(path, content, 0o600))
}

// Guarantee M2: a flipped byte, a truncated and a missing object are each named, and nothing is dropped: when the archive is verified, and
// by a drill or a restore later.
func TestADamagedArchiveDropsNothing(t *testing.T) {
	t.Parallel()
	log := newLog(t, 400)
	ctx := testContext(t)
	blob := newSpoilt(t)
	months := newMonths(t, log, partition.Config{Archive: &stopping{Dir: blob.Dir}})
	_, err := months.Archive(ctx, january)
	require.ErrorIs(t, err, errStop, "after the export")
	require.Equal(t, "exported", states(t, log)["2024-01"])
	whole := newMonths(t, log, partition.Config{Archive: blob})
	keys, err := blob.List(ctx, "")
	require.NoError(t, err)
	require.Len(t, keys, 4)
	for _, key := range keys {
		for problem, change := range map[string]func([]byte) []byte{
			"flipped":   func(b []byte) []byte { b = bytes.Clone(b); b[len(b)/2] ^= 1; return b },
			"truncated": func(b []byte) []byte { return b[:len(b)/2] },
			"emptied":   func([]byte) []byte { return []byte{} },
			"missing":   func([]byte) []byte { return nil },
		} {
			content, err := blob.Get(ctx, key)
			require.NoError(t, err)
			blob.change(t, key, change)
			_, err = whole.Archive(ctx, january)
			var damaged *partition.DamagedError
			require.ErrorAs(t, err, &damaged, "%s %s", key, problem)
			require.ErrorIs(t, err, partition.ErrDamaged)
			require.Equal(t, key, damaged.Key)
			require.Equal(t, "exported", states(t, log)["2024-01"])
			_, err = whole.RestoreDrill(ctx, january)
			require.ErrorIs(t, err, partition.ErrDamaged)
			require.NoError(t, os.RemoveAll(filepath.Join(blob.root, key)))
			require.NoError(t, blob.Put(ctx, key, content))
		}
	}
	state, err := whole.Archive(ctx, january)
	require.NoError(t, err)
	require.Equal(t, partition.Dropped, state)
	report, err := whole.RestoreDrill(ctx, january)
	require.NoError(t, err)
	require.EqualValues(t, len(collect(t, withCold(t, log, blob, 100).All(ctx, 0, eventstore.Filter{Recorded: eventstore.TimeRange{Until: february}}))), report.Rows)
	require.Positive(t, report.Bytes)
	require.Positive(t, report.Took)
	require.Equal(t, january, report.Month)
	require.Equal(t, "dropped", states(t, log)["2024-01"], "a drill changes nothing")
	blob.change(t, keys[0], func(b []byte) []byte { return b[1:] })
	require.ErrorIs(t, whole.Restore(ctx, january), partition.ErrDamaged)
	require.Equal(t, "dropped", states(t, log)["2024-01"])
}

// stopping fails the first Get of an object that was written: the export is done, nothing is read back.
type stopping struct{ *partition.Dir }

type stopError struct{}

func (stopError) Error() string { return "stop here" }

var errStop = stopError{}

func (s *stopping) Get(ctx context.Context, key string) ([]byte, error) {
	content, err := s.Dir.Get(ctx, key)
	if err == nil {
		return nil, errStop
	}
	return content, err
}

// Guarantee M2: a row that comes, goes or changes after the export is found by the digest right before the drop, under a lock.
func TestARowThatChangesAfterTheExportIsFound(t *testing.T) {
	t.Parallel()
	for name, tamper := range map[string]string{
		"added":   `INSERT INTO {{leaf}} SELECT position, recorded_at, stream_id, 1000000, gen_random_uuid(), event_type, schema_version, occurred_at, event_data, metadata FROM {{leaf}} ORDER BY position LIMIT 1`,
		"removed": `DELETE FROM {{leaf}} WHERE position = (SELECT max(position) FROM {{leaf}})`,
		"changed": `UPDATE {{leaf}} SET metadata = '{"user_id":"x"}' WHERE position = (SELECT min(position) FROM {{leaf}})`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newLog(t, 200)
			ctx := testContext(t)
			blob := newDir(t)
			months := newMonths(t, log, partition.Config{Archive: blob, Quarantine: time.Hour})
			_, err := months.Archive(ctx, january)
			require.ErrorIs(t, err, partition.ErrNotYet)
			require.ErrorContains(t, err, "quarantine")
			require.Equal(t, "detached", states(t, log)["2024-01"])
			leaf := log.Schema() + ".events_2024_01"
			_, err = log.Pool.Exec(ctx, strings.ReplaceAll(tamper, "{{leaf}}", leaf))
			if name != "added" {
				require.ErrorContains(t, err, "append-only", "the detached table is guarded, too")
			}
			exec(t, log, `ALTER TABLE `+leaf+` DISABLE TRIGGER ALL`)
			exec(t, log, `ALTER TABLE `+leaf+` DROP CONSTRAINT events_2024_01_position_key`)
			exec(t, log, strings.ReplaceAll(tamper, "{{leaf}}", leaf))
			now := newMonths(t, log, partition.Config{Archive: blob})
			_, err = now.Archive(ctx, january)
			require.ErrorIs(t, err, partition.ErrChanged)
			require.ErrorIs(t, now.Restore(ctx, january), partition.ErrChanged)
			require.Equal(t, "detached", states(t, log)["2024-01"])
			var there bool
			require.NoError(t, log.Pool.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, leaf).Scan(&there))
			require.True(t, there)
		})
	}
}

// Guarantee M3: no month leaves before every checkpoint is past it; one that nobody moves on is named, and can be released.
func TestAMonthWaitsForEveryCheckpoint(t *testing.T) {
	t.Parallel()
	log := newLog(t, 200)
	ctx := testContext(t)
	months := newMonths(t, log, partition.Config{Archive: newDir(t)})
	exec(t, log, `INSERT INTO `+log.Schema()+`.checkpoints (name, version, shard, position) VALUES ('far', 1, 0, 1000000), ('old', 3, 0, 5), ('old', 3, 1, 1000000)`)
	_, err := months.Archive(ctx, january)
	var notYet *partition.NotYetError
	require.ErrorAs(t, err, &notYet)
	require.Equal(t, partition.Verified, notYet.State)
	require.Len(t, notYet.Behind, 1)
	require.Equal(t, "old", notYet.Behind[0].Name)
	require.EqualValues(t, 5, notYet.Behind[0].Position)
	require.ErrorContains(t, err, "old version 3 at position 5")

	require.Error(t, months.Release(ctx, "old", 3, ""))
	require.Error(t, months.Release(ctx, "older", 3, "a slip of the pen"))
	require.NoError(t, months.Release(ctx, "old", 3, "replaced by version 4"))
	state, err := months.Archive(ctx, january)
	require.NoError(t, err)
	require.Equal(t, partition.Dropped, state)
}

// Guarantee M1: a month is sealed when the appends that began before are over, and nothing comes into it afterwards.
func TestSealingWaitsForAppendsInFlight(t *testing.T) {
	t.Parallel()
	log := newLog(t, 200)
	ctx := testContext(t)
	months := newMonths(t, log, partition.Config{})
	exec(t, log, `INSERT INTO `+log.Schema()+`.settings VALUES ('test_clock', 'on') ON CONFLICT DO NOTHING`)
	for _, month := range []time.Time{january, february} {
		_, err := months.Archive(ctx, month)
		require.ErrorIs(t, err, partition.ErrNoArchive)
	}
	clock := march.Add(time.Hour)
	late, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema(), Clock: func() time.Time { return clock }})
	require.NoError(t, err)
	tx, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	event := eventstore.Raw{Type: "said", SchemaVersion: 1, JSON: []byte(`{}`)}
	slow, err := late.WithTx(tx).Append(ctx, "late-1", eventstore.NoStream, event)
	require.NoError(t, err)

	sealed := make(chan error, 1)
	go func() {
		_, err := months.Maintain(ctx)
		sealed <- err
	}()
	require.Eventually(t, func() bool { return states(t, log)["2024-03"] == "sealing" }, time.Minute, 10*time.Millisecond)
	_, err = late.Append(ctx, "late-2", eventstore.NoStream, event)
	require.ErrorIs(t, err, eventstore.ErrMonthClosed, "the month is marked")
	select {
	case err := <-sealed:
		t.Fatalf("sealed beside an append: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	require.NoError(t, tx.Commit(ctx))
	require.NoError(t, <-sealed)
	require.Equal(t, "sealed", states(t, log)["2024-03"])
	var last, rows int64
	require.NoError(t, log.Pool.QueryRow(ctx, `SELECT last_position, row_count FROM `+log.Schema()+`.months WHERE month = '2024-03-01'`).Scan(&last, &rows))
	require.Equal(t, int64(slow.Position()), last, "it counts")
	var have int64
	require.NoError(t, log.Pool.QueryRow(ctx, `SELECT count(*) FROM `+log.Schema()+`.events_2024_03`).Scan(&have))
	require.Equal(t, have, rows)
	for month, state := range states(t, log) {
		if month < time.Now().UTC().Format("2006-01") {
			require.Equal(t, "sealed", state, month)
		} else {
			require.Equal(t, "open", state, month)
		}
	}
}

// Guarantee M1: it waits for an append, too, that has taken its fence, found the month open, and not written yet.
func TestSealingWaitsForAFence(t *testing.T) {
	t.Parallel()
	log := newLog(t, 200)
	ctx := testContext(t)
	months := newMonths(t, log, partition.Config{})
	tx, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `SELECT `+log.Schema()+`.take_fence(false)`)
	require.NoError(t, err)
	sealed := make(chan error, 1)
	go func() {
		_, err := months.Archive(ctx, january)
		sealed <- err
	}()
	require.Eventually(t, func() bool { return states(t, log)["2024-01"] == "sealing" }, time.Minute, 10*time.Millisecond)
	select {
	case err := <-sealed:
		t.Fatalf("sealed beside an append: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	require.Equal(t, "sealing", states(t, log)["2024-01"])
	require.NoError(t, tx.Rollback(ctx))
	require.ErrorIs(t, <-sealed, partition.ErrNoArchive, "as far as it goes")
	require.Equal(t, "sealed", states(t, log)["2024-01"])
}

// Guarantee M1: an append in a transaction whose snapshot is older than the mark does not see it; the range of positions stops it.
func TestAnOldSnapshotCannotWriteIntoASealedMonth(t *testing.T) {
	t.Parallel()
	log := newLog(t, 200)
	ctx := testContext(t)
	months := newMonths(t, log, partition.Config{})
	exec(t, log, `INSERT INTO `+log.Schema()+`.settings VALUES ('test_clock', 'on') ON CONFLICT DO NOTHING`)
	late, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema(), Clock: func() time.Time { return march.Add(time.Hour) }})
	require.NoError(t, err)
	tx, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(ctx)) }()
	_, err = tx.Exec(ctx, `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `SELECT 1 FROM `+log.Schema()+`.streams LIMIT 1`) // takes the snapshot
	require.NoError(t, err)
	_, err = months.Maintain(ctx)
	require.NoError(t, err)
	require.Equal(t, "sealed", states(t, log)["2024-03"])
	_, err = late.WithTx(tx).Append(ctx, "late-1", eventstore.NoStream, eventstore.Raw{Type: "said", SchemaVersion: 1, JSON: []byte(`{}`)})
	require.ErrorContains(t, err, "events_2024_03_position_check")
	require.ErrorIs(t, err, eventstore.ErrSerialization, "repeated with a new snapshot, it meets ErrMonthClosed")
	_, err = late.Append(ctx, "late-1", eventstore.NoStream, something())
	require.ErrorIs(t, err, eventstore.ErrMonthClosed)
}

// Guarantee M1: a database clock that jumps ahead seals no month that is not over: the program's clock has to agree.
func TestAClockThatJumpsAheadSealsNothing(t *testing.T) {
	t.Parallel()
	log := newLog(t, 50)
	ctx := testContext(t)
	newMonths(t, log, partition.Config{}) // makes the tables
	in := log.Schema()
	exec(t, log, `CREATE FUNCTION `+in+`.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT pg_catalog.clock_timestamp() + interval '70 days' $$`)
	store := tracedStore(t, log, func(config *pgxpool.Config) { config.ConnConfig.RuntimeParams["search_path"] = in + ", pg_catalog" })
	var ahead time.Duration
	require.NoError(t, store.Pool().QueryRow(ctx, `SELECT clock_timestamp() - now()`).Scan(&ahead))
	require.Greater(t, ahead, 69*24*time.Hour)
	months, err := partition.New(store, partition.Config{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	_, err = months.Maintain(ctx)
	require.NoError(t, err)
	found := states(t, log)
	require.Equal(t, "sealed", found["2024-01"])
	for n := range 2 {
		require.Equal(t, "open", found[time.Now().UTC().AddDate(0, 0, 1-time.Now().UTC().Day()).AddDate(0, n, 0).Format("2006-01")], n)
	}
	_, err = log.Append(ctx, eventstore.NewStreamID("discussion"), eventstore.NoStream, something())
	require.NoError(t, err)
}

// Guarantee M1: the range of positions is validated, the table vacuumed and analysed, and the registry holds what was sealed.
func TestWhatSealingLeaves(t *testing.T) {
	t.Parallel()
	log := newLog(t, 200)
	ctx := testContext(t)
	all := collect(t, log.All(ctx, 0, eventstore.Filter{Recorded: eventstore.TimeRange{Until: february}}))
	_, err := newMonths(t, log, partition.Config{MaxClockSkew: 50 * 365 * 24 * time.Hour}).Maintain(ctx)
	require.NoError(t, err)
	require.Equal(t, "open", states(t, log)["2024-01"], "clocks that far behind may still write into it")
	_, err = newMonths(t, log, partition.Config{}).Maintain(ctx)
	require.NoError(t, err)
	var constraint string
	var validated, vacuumed, analysed bool
	var first, last, rows, digest int64
	require.NoError(t, log.Pool.QueryRow(ctx, `
SELECT pg_get_constraintdef(k.oid), k.convalidated, s.last_vacuum IS NOT NULL, s.last_analyze IS NOT NULL,
       m.first_position, m.last_position, m.row_count, octet_length(m.digest)
  FROM pg_constraint k JOIN pg_stat_all_tables s ON s.relid = k.conrelid, `+log.Schema()+`.months m
 WHERE k.conrelid = $1::regclass AND k.conname = 'events_2024_01_position_check' AND m.month = '2024-01-01'`, log.Schema()+".events_2024_01").
		Scan(&constraint, &validated, &vacuumed, &analysed, &first, &last, &rows, &digest))
	require.Equal(t, fmt.Sprintf(`CHECK ((("position" >= %d) AND ("position" <= %d)))`, first, last), constraint)
	require.True(t, validated && vacuumed && analysed)
	require.Equal(t, []int64{int64(all[0].Position), int64(all[len(all)-1].Position), int64(len(all)), 32}, []int64{first, last, rows, digest})
}

// One process works, the others pass.
func TestOneProcessWorksAndTheOthersPass(t *testing.T) {
	t.Parallel()
	log := newLog(t, 200)
	ctx := testContext(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	slow := newMonths(t, log, partition.Config{Archive: newDir(t), Progress: func(p partition.Progress) {
		if p.Step == "export" {
			close(entered)
			<-leave
		}
	}})
	worked := make(chan error, 1)
	go func() {
		_, err := slow.Archive(ctx, january)
		worked <- err
	}()
	<-entered
	other := newMonths(t, log, partition.Config{})
	done, err := other.Maintain(ctx)
	require.NoError(t, err)
	require.True(t, done.Passed)
	require.Empty(t, done.Moved)
	_, err = other.Archive(ctx, january)
	require.ErrorIs(t, err, partition.ErrBusy)
	require.ErrorIs(t, other.Restore(ctx, january), partition.ErrBusy)
	close(leave)
	require.NoError(t, <-worked)
}

func TestBadInputIsRefused(t *testing.T) {
	t.Parallel()
	log := newLog(t, 100)
	ctx := testContext(t)
	for field, config := range map[string]partition.Config{
		"Config.Online": {Online: -1}, "Config.Quarantine": {Quarantine: -1}, "Config.Ahead": {Ahead: 13},
		"Config.MaxClockSkew": {MaxClockSkew: -1}, "Config.Interval": {Interval: 1},
	} {
		_, err := partition.New(log.Store, config)
		require.ErrorIs(t, err, eventstore.ErrInvalid)
		require.ErrorContains(t, err, field)
	}
	noPool, err := eventstore.New(nil, eventstore.Config{})
	require.NoError(t, err)
	_, err = partition.New(noPool, partition.Config{})
	require.ErrorIs(t, err, eventstore.ErrNoPool)

	months := newMonths(t, log, partition.Config{})
	_, err = months.Archive(ctx, time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC))
	require.ErrorIs(t, err, partition.ErrNoMonth)
	_, err = months.Archive(ctx, time.Now())
	require.ErrorIs(t, err, partition.ErrNotYet)
	require.ErrorContains(t, err, "not over")
	_, err = months.Archive(ctx, january)
	require.ErrorIs(t, err, partition.ErrNoArchive)
	require.Equal(t, "sealed", states(t, log)["2024-01"], "as far as it goes")
	_, err = months.RestoreDrill(ctx, january)
	require.ErrorIs(t, err, partition.ErrNoArchive)
	_, err = partition.NewCold(newDir(t), t.TempDir(), -1)
	require.ErrorIs(t, err, eventstore.ErrInvalid)
}
