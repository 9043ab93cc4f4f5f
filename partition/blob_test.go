package partition_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/partition"
)

// Guarantee M4: of many who put an object one wins, and what it has put stays; nothing is left of the others.
func TestADirKeepsTheFirstOfAnObject(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	dir, err := partition.NewDir(root)
	require.NoError(t, err)
	ctx := testContext(t)
	for round := range 20 {
		key := fmt.Sprintf("year=2024/month=01/part-%05d.parquet", round)
		var won atomic.Int32
		var winner atomic.Int64
		var putters errgroup.Group
		for n := range 16 {
			putters.Go(func() error {
				err := dir.Put(ctx, key, fmt.Appendf(nil, "content of %d", n))
				if err == nil {
					won.Add(1)
					winner.Store(int64(n))
				}
				if errors.Is(err, partition.ErrExists) {
					return nil
				}
				return err
			})
		}
		require.NoError(t, putters.Wait())
		require.EqualValues(t, 1, won.Load())
		content, err := dir.Get(ctx, key)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("content of %d", winner.Load()), string(content))
		require.ErrorIs(t, dir.Put(ctx, key, content), partition.ErrExists, "the same, too")
	}
	keys, err := dir.List(ctx, "year=2024/month=01/")
	require.NoError(t, err)
	require.Len(t, keys, 20)
	files, err := os.ReadDir(filepath.Join(root, "year=2024", "month=01"))
	require.NoError(t, err)
	require.Len(t, files, 20)
	for _, key := range []string{"", ".", "../x", "/x", "a//b", "a/../b", "a/.unfinished-1"} {
		require.Error(t, dir.Put(ctx, key, nil), key)
	}
	_, err = dir.Get(ctx, "none")
	require.ErrorIs(t, err, partition.ErrNotFound)
	require.NoError(t, dir.Delete(ctx, "none"))
}
