package projection

import (
	"embed"

	"github.com/sight-platform/hindsight/internal/migrate"
	"github.com/sight-platform/hindsight/internal/pg"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

//go:embed sql/*.sql
var sqlFiles embed.FS

// queries are the statements of sql/, by their file's name.
type queries map[string]string

func newQueries(schema pg.Schema) (queries, error) { return schema.Files(sqlFiles) }

func schemaLine() (*migrate.Line, error) { return migrate.Parse("projection", schemaFiles) }
