//go:build !cgo

package duckdbtest

import "testing"

func TestDuckDBReadsAnArchive(t *testing.T) {
	t.Skip("DuckDB is linked by cgo, which is off: install a C++ compiler")
}
