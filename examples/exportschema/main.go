// Command exportschema writes the log's migrations as files for a service's own migration tool.
//
//	go run ./exportschema -dir migrations -format goose [-schema hindsight]
//
// The formats: goose and tern write their annotations; plain is for tools that take SQL as it is, such as Atlas, or
// Alembic through op.execute.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sight-platform/hindsight/eventstore"
)

func main() {
	dir := flag.String("dir", "migrations", "the folder to write to")
	format := flag.String("format", "plain", "goose, tern or plain")
	schema := flag.String("schema", eventstore.DefaultSchema, "the schema of the log")
	flag.Parse()
	if err := export(*dir, *format, *schema); err != nil {
		fmt.Fprintln(os.Stderr, "exportschema:", err)
		os.Exit(1)
	}
}

func export(dir, format, schema string) error {
	wrap, ok := map[string]func(string) string{
		"plain": func(sql string) string { return sql },
		// Function bodies hold semicolons: goose must take the text as one statement.
		"goose": func(sql string) string {
			return "-- +goose Up\n-- +goose StatementBegin\n" + sql + "-- +goose StatementEnd\n"
		},
		"tern": func(sql string) string { return sql + "\n---- create above / drop below ----\n" },
	}[format]
	if !ok {
		return fmt.Errorf("format %q is none of goose, tern, plain", format)
	}
	migrations, err := eventstore.Migrations(schema)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for _, m := range migrations {
		name := filepath.Join(dir, fmt.Sprintf("%03d_hindsight_%s.sql", m.Version, m.Name))
		// What a tool has run once must not change under it.
		file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) {
			fmt.Println(name, "is there already")
			continue
		}
		if err != nil {
			return err
		}
		_, err = file.WriteString(wrap(m.SQL))
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
		fmt.Println(name)
	}
	return nil
}
