package partition_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/partition"
)

// What OPERATIONS.md says for a month that was sealed too early works: it takes events again, and is sealed again with them.
func TestASealedMonthIsOpenedByHand(t *testing.T) {
	t.Parallel()
	log := newLog(t, 200)
	ctx := testContext(t)
	months := newMonths(t, log, partition.Config{})
	_, err := months.Maintain(ctx)
	require.NoError(t, err)
	exec(t, log, `INSERT INTO `+log.Schema()+`.settings VALUES ('test_clock', 'on') ON CONFLICT DO NOTHING`)
	late, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema(), Clock: func() time.Time { return march.Add(time.Hour) }})
	require.NoError(t, err)
	_, err = late.Append(ctx, "late-1", eventstore.NoStream, something())
	require.ErrorIs(t, err, eventstore.ErrMonthClosed)

	text, err := os.ReadFile("OPERATIONS.md")
	require.NoError(t, err)
	recipe := regexp.MustCompile("(?s)## A month that was sealed too early.*?```sql\n(.*?)```").FindSubmatch(text)
	require.NotNil(t, recipe)
	exec(t, log, strings.NewReplacer("hindsight.", log.Schema()+".", "2026_01", "2024_03", "2026-01", "2024-03").Replace(string(recipe[1])))
	require.Equal(t, "open", states(t, log)["2024-03"])
	receipt, err := late.Append(ctx, "late-1", eventstore.NoStream, something())
	require.NoError(t, err)
	_, err = months.Maintain(ctx)
	require.NoError(t, err)
	require.Equal(t, "sealed", states(t, log)["2024-03"])
	var last eventstore.Position
	require.NoError(t, log.Pool.QueryRow(ctx, `SELECT last_position FROM `+log.Schema()+`.months WHERE month = '2024-03-01'`).Scan((*int64)(&last)))
	require.Equal(t, receipt.Position(), last)
}
