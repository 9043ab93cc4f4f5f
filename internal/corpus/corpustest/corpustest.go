// Package corpustest finds the recorded discussions that tests run on. They are not in this repository.
package corpustest

import (
	"os"
	"path/filepath"
	"testing"
)

// Recordings is the folder of the recordings, *.ndjson.gz. Without HINDSIGHT_CORPUS, which names the folder above it, the test
// is skipped.
func Recordings(tb testing.TB) string {
	tb.Helper()
	folder := os.Getenv("HINDSIGHT_CORPUS")
	if folder == "" {
		tb.Skip("HINDSIGHT_CORPUS is not set: it names the folder of recorded discussions, which are not in this repository")
	}
	return filepath.Join(folder, "recordings")
}
