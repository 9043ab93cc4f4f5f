package partition_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/partition"
)

// Guarantee M5, inside transactions: they read through the parent, and what has left it comes from the archive, or is an error that
// names the month. A snapshot from before does not know that a month has left; the catalog does.
func TestATransactionNoticesAMonthThatLeft(t *testing.T) {
	t.Parallel()
	log := newLog(t, 600)
	ctx := testContext(t)
	before := collect(t, log.All(ctx, 0, eventstore.Filter{}))
	_, err := log.Settle(ctx) // for stricter isolation
	require.NoError(t, err)
	blob := newDir(t)
	months := newMonths(t, log, partition.Config{Archive: blob})
	cold := withCold(t, log, blob, 100)
	id := streamWithin(t, before, january, february)
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.ReadCommitted, pgx.RepeatableRead} {
		tx, err := log.Pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: level})
		require.NoError(t, err)
		var one int
		require.NoError(t, tx.QueryRow(ctx, `SELECT 1 FROM `+log.Schema()+`.streams LIMIT 1`).Scan(&one)) // takes the snapshot
		_, err = months.Archive(ctx, january)
		require.NoError(t, err)
		require.Equal(t, "dropped", states(t, log)["2024-01"])
		for _, err := range log.WithTx(tx).All(ctx, 0, eventstore.Filter{}) {
			require.ErrorIs(t, err, eventstore.ErrArchived, "%s", level)
			break
		}
		for _, err := range log.WithTx(tx).Stream(ctx, id, 0) {
			require.ErrorIs(t, err, eventstore.ErrArchived, "%s", level)
			break
		}
		if level == pgx.ReadCommitted {
			require.Equal(t, before, collect(t, cold.WithTx(tx).All(ctx, 0, eventstore.Filter{})))
			require.NotEmpty(t, collect(t, cold.WithTx(tx).Stream(ctx, id, 0)))
		}
		require.NoError(t, tx.Rollback(ctx))
		require.NoError(t, months.Restore(ctx, january))
	}
}
