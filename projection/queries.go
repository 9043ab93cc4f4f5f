package projection

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"github.com/sight-platform/hindsight/internal/migrate"
	"github.com/sight-platform/hindsight/internal/pg"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

//go:embed sql/*.sql
var sqlFiles embed.FS

// queries are the statements of sql/, by their file's name.
type queries map[string]string

func newQueries(schema pg.Schema) (queries, error) {
	names, err := fs.Glob(sqlFiles, "sql/*.sql")
	if err != nil {
		return nil, err
	}
	q := queries{}
	for _, name := range names {
		text, err := sqlFiles.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		q[strings.TrimSuffix(strings.TrimPrefix(name, "sql/"), ".sql")] = schema.SQL(string(text))
	}
	return q, nil
}

func schemaLine() (*migrate.Line, error) { return migrate.Parse("projection", schemaFiles) }
