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

// EachRecording runs a test on each of the recordings.
func EachRecording(t *testing.T, test func(t *testing.T, path string)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(Recordings(t), "*.ndjson.gz"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings in %s: %v", Recordings(t), err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) { test(t, path) })
	}
}
