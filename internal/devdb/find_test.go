package devdb

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBinariesOnThisMachineAreFound(t *testing.T) {
	if from := os.Getenv(fromVariable); from == fromDocker {
		return // the machine may have none
	}
	found, err := findInstallation(t.Context(), findBinDirs(t.Context()))
	if err != nil {
		require.NotContains(t, sources(t), fromLocal)
		return
	}
	require.GreaterOrEqual(t, found.version, oldestVersion)
	require.True(t, found.vector)
	require.FileExists(t, filepath.Join(found.binDir, "postgres"))
}

func TestNewestInstallationWithVectorIsChosen(t *testing.T) {
	dirs := []string{fakeInstallation(t, "14.9", true), fakeInstallation(t, "15.3", true), fakeInstallation(t, "18beta1", false)}
	_, err := findInstallation(t.Context(), dirs[:1])
	require.ErrorContains(t, err, "is older than 15")
	_, err = findInstallation(t.Context(), dirs[2:])
	require.ErrorContains(t, err, "has no pgvector")

	dirs = append(dirs, fakeInstallation(t, "17.2 (Debian 17.2-1)", true), fakeInstallation(t, "16.1", true))
	found, err := findInstallation(t.Context(), dirs)
	require.NoError(t, err)
	require.Equal(t, installation{binDir: dirs[3], version: 17, vector: true}, found)
	require.Equal(t, "PostgreSQL 17 in "+dirs[3], found.String())
}

// fakeInstallation makes a directory whose programs say what those of that version say.
func fakeInstallation(t *testing.T, version string, vector bool) string {
	t.Helper()
	root := t.TempDir()
	bin, extensions := filepath.Join(root, "bin"), filepath.Join(root, "share", "extension")
	require.NoError(t, os.MkdirAll(bin, 0o755))
	require.NoError(t, os.MkdirAll(extensions, 0o755))
	for name, says := range map[string]string{"postgres": "postgres (PostgreSQL) " + version, "initdb": "", "pg_config": filepath.Join(root, "share")} {
		script := fmt.Sprintf("#!/bin/sh\necho '%s'\n", says)
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755))
	}
	if vector {
		require.NoError(t, os.WriteFile(filepath.Join(extensions, "vector.control"), nil, 0o600))
	}
	return bin
}
