package partition_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/partition"
)

// Guarantee M5, inside transactions: what has left comes from the archive, or is an error that names the month; a snapshot from before
// reads the table while it stands, and has to be repeated when it is gone.
func TestATransactionNoticesAMonthThatLeft(t *testing.T) {
	t.Parallel()
	log := newLog(t, 600)
	ctx := testContext(t)
	before := collect(t, log.All(ctx, 0, eventstore.Filter{}))
	_, err := log.Settle(ctx) // for stricter isolation
	require.NoError(t, err)
	blob := newDir(t)
	waits, drops := newMonths(t, log, partition.Config{Archive: blob, Quarantine: time.Hour}), newMonths(t, log, partition.Config{Archive: blob})
	cold := withCold(t, log, blob, 100)
	id := streamWithin(t, before, january, february)
	begin := func(level pgx.TxIsoLevel) pgx.Tx {
		tx, err := log.Pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: level})
		require.NoError(t, err)
		var one int
		require.NoError(t, tx.QueryRow(ctx, `SELECT 1 FROM `+log.Schema()+`.streams LIMIT 1`).Scan(&one)) // takes the snapshot
		return tx
	}
	firstError := func(events func(func(eventstore.Recorded, error) bool)) error {
		for _, err := range events {
			return err
		}
		return nil
	}
	old, older := begin(pgx.RepeatableRead), begin(pgx.RepeatableRead)
	_, err = waits.Archive(ctx, january)
	require.ErrorIs(t, err, partition.ErrNotYet)
	require.Equal(t, "detached", states(t, log)["2024-01"])
	require.Equal(t, before, collect(t, log.WithTx(old).All(ctx, 0, eventstore.Filter{})), "as it was")
	require.NotEmpty(t, collect(t, log.WithTx(old).Stream(ctx, id, 0)))
	require.NoError(t, old.Rollback(ctx))
	now := begin(pgx.ReadCommitted)
	require.ErrorIs(t, firstError(log.WithTx(now).All(ctx, 0, eventstore.Filter{})), eventstore.ErrArchived)
	require.ErrorIs(t, firstError(log.WithTx(now).Stream(ctx, id, 0)), eventstore.ErrArchived)
	require.Equal(t, before, collect(t, cold.WithTx(now).All(ctx, 0, eventstore.Filter{})))
	require.NotEmpty(t, collect(t, cold.WithTx(now).Stream(ctx, id, 0)))

	_, err = drops.Archive(ctx, january)
	require.NoError(t, err)
	require.Equal(t, before, collect(t, cold.WithTx(now).All(ctx, 0, eventstore.Filter{})))
	require.ErrorIs(t, firstError(log.WithTx(older).All(ctx, 0, eventstore.Filter{})), eventstore.ErrSerialization)
	require.NoError(t, older.Rollback(ctx))
	last := begin(pgx.RepeatableRead)
	require.NoError(t, drops.Restore(ctx, january))
	require.Equal(t, before, collect(t, cold.WithTx(now).All(ctx, 0, eventstore.Filter{})))
	require.Equal(t, before, collect(t, log.WithTx(now).All(ctx, 0, eventstore.Filter{})))
	require.ErrorIs(t, firstError(log.WithTx(last).All(ctx, 0, eventstore.Filter{})), eventstore.ErrArchived, "as it was")
	require.NoError(t, last.Rollback(ctx))
	require.NoError(t, now.Rollback(ctx)) // it has read the table, which would hold a detachment up

	through := begin(pgx.RepeatableRead)
	_, err = drops.Archive(ctx, january)
	require.NoError(t, err)
	require.NoError(t, drops.Restore(ctx, january))
	require.Equal(t, before, collect(t, log.WithTx(through).All(ctx, 0, eventstore.Filter{})), "it was away and is back; its rows are frozen")
	require.NoError(t, through.Rollback(ctx))
}

// Guarantee M5: months that leave and come back while the log is read again and again are neither passed over nor read twice.
func TestReadersBesideMonthsThatLeaveAndComeBack(t *testing.T) {
	t.Parallel()
	log := newLog(t, 600)
	ctx := testContext(t)
	before := collect(t, log.All(ctx, 0, eventstore.Filter{}))
	blob := newDir(t)
	months := newMonths(t, log, partition.Config{Archive: blob})
	store := withCold(t, log, blob, 50) // one list of months for all readers
	id := streamWithin(t, before, january, february)
	want := collect(t, log.Stream(ctx, id, 0))
	var stop atomic.Bool
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for !stop.Load() {
				all, err := gather(store.All(ctx, 0, eventstore.Filter{}))
				stream, streamErr := gather(store.Stream(ctx, id, 0))
				_, resumeErr := store.Resume(ctx, cursorOf(before[0]))
				inTx, txErr := gatherInTx(ctx, store, log.Pool)
				if !assert.NoError(t, errors.Join(err, streamErr, resumeErr)) || !assert.Equal(t, before, all) || !assert.Equal(t, want, stream) {
					return
				}
				if errors.Is(txErr, eventstore.ErrSerialization) { // dropped since it looked
					continue
				}
				if !assert.NoError(t, txErr) || !assert.Equal(t, before, inTx) {
					return
				}
			}
		})
	}
	for range 4 {
		for _, month := range []time.Time{january, february} {
			_, err := months.Archive(ctx, month)
			require.NoError(t, err)
		}
		for _, month := range []time.Time{january, february} {
			require.NoError(t, months.Restore(ctx, month))
		}
	}
	stop.Store(true)
	readers.Wait()
}

func gatherInTx(ctx context.Context, store *eventstore.Store, pool *pgxpool.Pool) (all []stored, err error) {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	all, err = gather(store.WithTx(tx).All(ctx, 0, eventstore.Filter{}))
	return all, errors.Join(err, tx.Rollback(ctx))
}

func cursorOf(e stored) eventstore.Cursor {
	return eventstore.Recorded{Position: e.Position, ID: uuid.MustParse(e.ID), RecordedAt: e.Recorded}.Cursor()
}
