package partition_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/partition"
)

func something() eventstore.Raw {
	return eventstore.Raw{Type: "said", SchemaVersion: 1, JSON: []byte(`{}`)}
}

// A month is made while an append's transaction is open, and an append goes through while the transaction that makes a month is.
func TestNobodyWaitsWhileAMonthIsMade(t *testing.T) {
	t.Parallel()
	log := newLog(t, 50)
	ctx := testContext(t)
	_, err := newMonths(t, log, partition.Config{Ahead: 1}).Maintain(ctx) // seals, which waits for appends in flight
	require.NoError(t, err)
	appending, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = appending.Rollback(context.WithoutCancel(ctx)) }()
	store := log.WithTx(appending)
	_, err = store.Append(ctx, eventstore.NewStreamID("discussion"), eventstore.NoStream, something())
	require.NoError(t, err)
	before := len(states(t, log))
	_, err = newMonths(t, log, partition.Config{Ahead: 4}).Maintain(ctx)
	require.NoError(t, err, "with an append's transaction open")
	require.Equal(t, before+3, len(states(t, log)))
	require.NoError(t, appending.Commit(ctx))

	making, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = making.Rollback(context.WithoutCancel(ctx)) }()
	var made bool
	require.NoError(t, making.QueryRow(ctx, `SELECT `+log.Schema()+`.ensure_month((now() + interval '6 months')::date)`).Scan(&made))
	require.True(t, made)
	impatient, err := log.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = impatient.Rollback(context.WithoutCancel(ctx)) }()
	_, err = impatient.Exec(ctx, `SET LOCAL lock_timeout = '1ms'`) // any wait for a lock is an error
	require.NoError(t, err)
	_, err = log.WithTx(impatient).Append(ctx, eventstore.NewStreamID("discussion"), eventstore.NoStream, something())
	require.NoError(t, err, "with the transaction open that makes a month")
	require.NoError(t, impatient.Commit(ctx))
	require.NoError(t, making.Commit(ctx))
}

// Appends go on while months are made ahead, detached and attached. How long the longest took is printed; what is asserted is that none
// waited for a lock for longer than 50 ms: it would have failed.
func TestAppendsGoOnWhileMonthsComeAndGo(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	ctx := testContext(t)
	months := newMonths(t, log, partition.Config{Archive: newDir(t), Ahead: 12})
	var stop atomic.Bool
	var appended, longest atomic.Int64
	var writers errgroup.Group
	for range 3 {
		writers.Go(func() error {
			id := eventstore.NewStreamID("discussion")
			for version := eventstore.Version(0); !stop.Load(); version++ {
				began := time.Now()
				err := pgx.BeginFunc(ctx, log.Pool, func(tx pgx.Tx) error {
					// Of another append it waits for nothing but the commit: a fence is shared, and the stream its own.
					if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '50ms'`); err != nil {
						return err
					}
					_, err := log.WithTx(tx).Append(ctx, id, eventstore.AtVersion(version), something())
					return err
				})
				if err != nil {
					return err
				}
				appended.Add(1)
				for took := int64(time.Since(began)); ; {
					if most := longest.Load(); took <= most || longest.CompareAndSwap(most, took) {
						break
					}
				}
			}
			return nil
		})
	}
	before := len(states(t, log))
	_, err := months.Maintain(ctx)
	require.NoError(t, err)
	require.Equal(t, before+11, len(states(t, log)), "months were made ahead")
	for range 5 {
		require.NoError(t, finish(ctx, months, "archive"))
		require.NoError(t, months.Restore(ctx, january))
	}
	stop.Store(true)
	require.NoError(t, writers.Wait())
	require.Positive(t, appended.Load())
	t.Logf("%d appends, the longest took %s", appended.Load(), time.Duration(longest.Load()))
}
