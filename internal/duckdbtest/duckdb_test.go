//go:build cgo

package duckdbtest

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/duckdb/duckdb-go/v2"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// DuckDB finds the events in an archive that PostgreSQL had, in Parquet and in NDJSON.
func TestDuckDBReadsAnArchive(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	rows := rowsOf(t, postgres(t, log, rowSQL))
	require.Greater(t, len(rows), 5000)
	byMonth := factsOf(t, postgres(t, log, factSQL, "{{group}}", `to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM')`))
	require.Len(t, byMonth, months)
	byType := factsOf(t, postgres(t, log, factSQL, "{{group}}", `event_type`))
	require.Greater(t, len(byType), 10)
	dir := archive(t, log)
	parts, err := filepath.Glob(filepath.Join(dir, "year=2024", "month=01", "*.parquet"))
	require.NoError(t, err)
	require.Greater(t, len(parts), 1)

	db := open(t, dir)
	for _, table := range []string{"parquet", "ndjson"} {
		t.Run(table, func(t *testing.T) {
			require.Equal(t, byMonth, factsOf(t, query(t, db, factSQL, "{{table}}", table, "{{group}}", `year || '-' || month`, "octet_length", "strlen")))
			require.Equal(t, byType, factsOf(t, query(t, db, factSQL, "{{table}}", table, "{{group}}", `event_type`, "octet_length", "strlen")))
			sameRows(t, rows, query(t, db, rowSQL, "{{table}}", table))
		})
	}
	t.Run("types", func(t *testing.T) { types(t, db) })
	t.Run("filters", func(t *testing.T) { filters(t, db, rows) })
}

// open gives DuckDB the archive as tables. It may not fetch an extension.
func open(t *testing.T, dir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("duckdb", "?autoinstall_known_extensions=false")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	for _, statement := range []string{
		`CREATE VIEW parquet AS SELECT * FROM read_parquet('%s/year=*/month=*/*.parquet', hive_partitioning = true)`,
		`CREATE VIEW ndjson AS SELECT * FROM read_ndjson('%s/year=*/month=*/*.ndjson.zst', hive_partitioning = true, compression = 'zstd',
 columns = {position: 'BIGINT', recorded_at: 'TIMESTAMPTZ', stream_id: 'VARCHAR', version: 'BIGINT', event_id: 'UUID', event_type: 'VARCHAR',
            schema_version: 'INTEGER', occurred_at: 'TIMESTAMPTZ', event_data: 'VARCHAR', metadata: 'VARCHAR'})`,
	} {
		_, err := db.ExecContext(t.Context(), fmt.Sprintf(statement, dir))
		require.NoError(t, err)
	}
	return db
}

// result is what pgx and database/sql have in common.
type result interface {
	Next() bool
	Scan(...any) error
	Err() error
}

func postgres(t *testing.T, log *eventstoretest.Log, statement string, replaced ...string) result {
	t.Helper()
	statement = strings.NewReplacer(append(replaced, "{{table}}", log.Schema()+".events")...).Replace(statement)
	rows, err := log.Pool.Query(t.Context(), statement)
	require.NoError(t, err)
	t.Cleanup(rows.Close)
	return rows
}

func query(t *testing.T, db *sql.DB, statement string, replaced ...string) result {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), strings.NewReplacer(replaced...).Replace(statement)) //nolint:rowserrcheck // who reads the rows checks it
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, rows.Close()) })
	return rows
}

// facts are sums and bounds of a group of events.
type facts struct {
	Events, Positions, First, Last, Versions, DataBytes, MetadataBytes, SchemaVersions int64
	FirstRecorded, LastRecorded, FirstOccurred, LastOccurred                           time.Time
	FirstID, LastID                                                                    string
	IDs, Streams                                                                       int64
}

const factSQL = `SELECT {{group}}, count(*), CAST(sum(position) AS bigint), min(position), max(position), CAST(sum(version) AS bigint),
 CAST(sum(octet_length(CAST(event_data AS text))) AS bigint), CAST(sum(octet_length(CAST(metadata AS text))) AS bigint),
 CAST(sum(schema_version) AS bigint), min(recorded_at), max(recorded_at), min(occurred_at), max(occurred_at),
 min(CAST(event_id AS text)), max(CAST(event_id AS text)), count(DISTINCT event_id), count(DISTINCT stream_id)
 FROM {{table}} GROUP BY 1`

func factsOf(t *testing.T, rows result) map[string]facts {
	t.Helper()
	groups := map[string]facts{}
	for rows.Next() {
		var group string
		var f facts
		require.NoError(t, rows.Scan(&group, &f.Events, &f.Positions, &f.First, &f.Last, &f.Versions, &f.DataBytes, &f.MetadataBytes, &f.SchemaVersions,
			&f.FirstRecorded, &f.LastRecorded, &f.FirstOccurred, &f.LastOccurred, &f.FirstID, &f.LastID, &f.IDs, &f.Streams))
		for _, at := range []*time.Time{&f.FirstRecorded, &f.LastRecorded, &f.FirstOccurred, &f.LastOccurred} {
			*at = at.UTC()
		}
		groups[group] = f
	}
	require.NoError(t, rows.Err())
	return groups
}

// row is an event, each of its columns.
type row struct {
	Position       int64
	Recorded       time.Time
	Stream         string
	Version        int64
	ID, Type       string
	Schema         int64
	Occurred       time.Time
	Data, Metadata string
}

const rowSQL = `SELECT position, recorded_at, stream_id, version, CAST(event_id AS text), event_type, schema_version, occurred_at,
 CAST(event_data AS text), CAST(metadata AS text) FROM {{table}} ORDER BY position`

func scanRow(rows result) (r row, err error) {
	err = rows.Scan(&r.Position, &r.Recorded, &r.Stream, &r.Version, &r.ID, &r.Type, &r.Schema, &r.Occurred, &r.Data, &r.Metadata)
	r.Recorded, r.Occurred = r.Recorded.UTC(), r.Occurred.UTC()
	return r, err
}

func rowsOf(t *testing.T, rows result) (all []row) {
	t.Helper()
	for rows.Next() {
		r, err := scanRow(rows)
		require.NoError(t, err)
		all = append(all, r)
	}
	require.NoError(t, rows.Err())
	return all
}

func sameRows(t *testing.T, want []row, got result) {
	t.Helper()
	n := 0
	for ; got.Next(); n++ {
		r, err := scanRow(got)
		require.NoError(t, err)
		require.Less(t, n, len(want))
		require.Equal(t, want[n], r)
	}
	require.NoError(t, got.Err())
	require.Len(t, want, n)
}

// types are those that a tool finds without being told.
func types(t *testing.T, db *sql.DB) {
	t.Helper()
	found := map[string]string{}
	rows := query(t, db, `SELECT column_name, column_type FROM (DESCRIBE parquet)`)
	for rows.Next() {
		var name, kind string
		require.NoError(t, rows.Scan(&name, &kind))
		found[name] = kind
	}
	require.NoError(t, rows.Err())
	require.Equal(t, map[string]string{
		"position": "BIGINT", "recorded_at": "TIMESTAMP WITH TIME ZONE", "stream_id": "VARCHAR", "version": "BIGINT", "event_id": "UUID",
		"event_type": "VARCHAR", "schema_version": "INTEGER", "occurred_at": "TIMESTAMP WITH TIME ZONE", "event_data": "VARCHAR",
		"metadata": "VARCHAR", "year": "BIGINT", "month": "VARCHAR", // "01"
	}, found)
}

// filters leave out files, row groups and pages by what Parquet says of them: nothing may be left out that is asked for.
func filters(t *testing.T, db *sql.DB, rows []row) {
	t.Helper()
	for i := 0; i < len(rows); i += len(rows) / 25 {
		r := rows[i]
		for _, filter := range []struct {
			where string
			value any
			holds func(row) bool
		}{
			{`position = ?`, r.Position, func(o row) bool { return o.Position == r.Position }},
			{`position > ?`, r.Position, func(o row) bool { return o.Position > r.Position }},
			{`event_id = CAST(? AS UUID)`, r.ID, func(o row) bool { return o.ID == r.ID }},
			{`event_id < CAST(? AS UUID)`, r.ID, func(o row) bool { return o.ID < r.ID }},
			{`stream_id = ?`, r.Stream, func(o row) bool { return o.Stream == r.Stream }},
			{`stream_id > ?`, r.Stream, func(o row) bool { return o.Stream > r.Stream }},
			{`event_type = ?`, r.Type, func(o row) bool { return o.Type == r.Type }},
			{`version = ?`, r.Version, func(o row) bool { return o.Version == r.Version }},
			{`recorded_at = ?`, r.Recorded, func(o row) bool { return o.Recorded.Equal(r.Recorded) }},
			{`recorded_at < ?`, r.Recorded, func(o row) bool { return o.Recorded.Before(r.Recorded) }},
			{`occurred_at <= ?`, r.Occurred, func(o row) bool { return !o.Occurred.After(r.Occurred) }},
			{`year = 2024 AND month = ?`, int(r.Recorded.Month()), func(o row) bool { return o.Recorded.Month() == r.Recorded.Month() }},
		} {
			want, positions := 0, int64(0)
			for _, o := range rows {
				if filter.holds(o) {
					want, positions = want+1, positions+o.Position
				}
			}
			var got int
			var sum int64
			err := db.QueryRowContext(t.Context(), `SELECT count(*), CAST(coalesce(sum(position), 0) AS bigint) FROM parquet WHERE `+filter.where, filter.value).Scan(&got, &sum)
			require.NoError(t, err)
			require.Equal(t, []int64{int64(want), positions}, []int64{int64(got), sum}, "%s, %v", filter.where, filter.value)
		}
	}
}
