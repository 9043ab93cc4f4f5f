// Package duckdbtest has DuckDB, which knows nothing of us, read what package partition archives. It holds tests only.
package duckdbtest
