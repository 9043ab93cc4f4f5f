package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each mutant fits the tree as it is, and names a test that exists: found here in a moment, not in the long run of all.
func TestEveryMutantFits(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	names := map[string]bool{}
	for _, m := range mutants() {
		t.Run(m.name, func(t *testing.T) {
			_, err := m.writeOverlay(t.TempDir())
			require.NoError(t, err)
			require.False(t, names[m.name], "the name is taken")
			names[m.name] = true
			tests, err := filepath.Glob(filepath.Join(m.pkg, "*_test.go"))
			require.NoError(t, err)
			found := false
			for _, file := range tests {
				text, err := os.ReadFile(file)
				require.NoError(t, err)
				found = found || strings.Contains(string(text), "func "+m.test+"(t *testing.T)")
			}
			require.True(t, found, "%s has no %s", m.pkg, m.test)
		})
	}
}
