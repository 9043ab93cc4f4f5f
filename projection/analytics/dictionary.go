package analytics

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
	"github.com/sight-platform/hindsight/projection"
)

// described is a column as the database describes it.
type described struct {
	Table         int // number, from 1
	Grain         string
	Name, Type    string
	NotNull       bool
	Comment       string
	Key           bool
	RefersTo, OID int64
}

// Dictionary is the star as it stands in the database, in Markdown: a diagram of its tables by their keys, and each table and
// column with its type and comment.
func (s *Star) Dictionary(ctx context.Context) (string, error) {
	var names, physical []string
	for _, table := range s.Spec().Tables {
		names, physical = append(names, table.Name), append(physical, s.table(table.Name))
	}
	sql, err := sqlOf("dictionary_columns")
	if err != nil {
		return "", err
	}
	var columns []described
	err = pg.InTx(ctx, s.store.Pool(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('search_path', $1::text, true)`, s.store.Schema()); err != nil { // types of its own go by their names
			return err
		}
		rows, err := tx.Query(ctx, sql, physical)
		if err != nil {
			return err
		}
		columns, err = pgx.CollectRows(rows, pgx.RowToStructByPos[described])
		return err
	})
	if err != nil {
		return "", fmt.Errorf("reading the star's tables: %w", err)
	}
	tables := map[int64]string{}
	byTable := make([][]described, len(names))
	for _, c := range columns {
		c.Type = strings.NewReplacer(fmt.Sprintf("_v%d", s.config.Version), "", "timestamp with time zone", "timestamptz").Replace(c.Type)
		tables[c.OID] = names[c.Table-1]
		byTable[c.Table-1] = append(byTable[c.Table-1], c)
	}
	for i, list := range byTable {
		if len(list) == 0 {
			return "", fmt.Errorf("reading the star's tables: %s: %w", names[i], projection.ErrNotMigrated)
		}
	}
	var b strings.Builder
	writeDiagram(&b, names, byTable, tables)
	for i, list := range byTable {
		writeTable(&b, names[i], list, tables)
	}
	return b.String(), nil
}

// writeDiagram shows tables by their keys.
func writeDiagram(b *strings.Builder, names []string, byTable [][]described, tables map[int64]string) {
	b.WriteString("```mermaid\nerDiagram\n")
	for i, list := range byTable {
		for _, c := range list {
			if c.RefersTo != 0 {
				_, _ = fmt.Fprintf(b, "    %s ||--o{ %s : %s\n", tables[c.RefersTo], names[i], c.Name)
			}
		}
	}
	for i, list := range byTable {
		_, _ = fmt.Fprintf(b, "    %s {\n", names[i])
		for _, c := range list {
			var marks []string
			if c.Key {
				marks = append(marks, "PK")
			}
			if c.RefersTo != 0 {
				marks = append(marks, "FK")
			}
			if len(marks) > 0 {
				_, _ = fmt.Fprintf(b, "        %s %s %s\n", strings.ReplaceAll(c.Type, " ", "_"), c.Name, strings.Join(marks, ","))
			}
		}
		b.WriteString("    }\n")
	}
	b.WriteString("```\n")
}

// writeTable shows a table with its columns.
func writeTable(b *strings.Builder, name string, columns []described, tables map[int64]string) {
	_, _ = fmt.Fprintf(b, "\n## %s\n%s\n\n| column | type | meaning |\n|---|---|---|\n", name, columns[0].Grain)
	for _, c := range columns {
		kind := c.Type
		if c.NotNull {
			kind += ", not null"
		}
		if c.Key {
			kind += ", key"
		}
		if c.RefersTo != 0 {
			kind += ", of " + tables[c.RefersTo]
		}
		_, _ = fmt.Fprintf(b, "| %s | %s | %s |\n", c.Name, kind, strings.ReplaceAll(c.Comment, "|", `\|`))
	}
}
