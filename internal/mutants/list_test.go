package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// A mutant whose text is not in its file any more would only show in the long run.
func TestEachMutantFitsItsFile(t *testing.T) {
	t.Chdir("../..")
	names := map[string]bool{}
	for _, m := range mutants() {
		require.False(t, names[m.name], "%s: twice", m.name)
		names[m.name] = true
		_, err := m.writeOverlay(t.TempDir())
		require.NoError(t, err, m.name)
		require.DirExists(t, m.pkg)
		_, err = os.Stat(m.file)
		require.NoError(t, err)
	}
}
