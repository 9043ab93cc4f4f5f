package projection

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Statements are named by strings: each name has its file, and each file a use.
func TestEachStatementHasItsFile(t *testing.T) {
	t.Parallel()
	known, err := newQueries("s")
	require.NoError(t, err)
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	used := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, name := range regexp.MustCompile(`(?:sql\[|parkedKeys\(ctx, )"(\w+)"`).FindAllStringSubmatch(string(text), -1) {
			used[name[1]] = true
			require.Contains(t, known, name[1], file)
		}
	}
	for name := range known {
		require.Contains(t, used, name, "nothing runs sql/%s.sql", name)
	}
}
