package pg

import (
	"fmt"
	"io/fs"
	"strings"
)

// Files are the statements of a package's sql/*.sql with their schema filled in, by their file's name without .sql.
func (s Schema) Files(files fs.FS) (map[string]string, error) {
	names, err := fs.Glob(files, "sql/*.sql")
	if err != nil {
		return nil, err
	}
	statements := map[string]string{}
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		statements[strings.TrimSuffix(strings.TrimPrefix(name, "sql/"), ".sql")] = s.SQL(string(text))
	}
	return statements, nil
}
