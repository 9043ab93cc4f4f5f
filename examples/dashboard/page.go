package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
)

// shown is a panel with what its query returned.
type shown struct {
	panel
	Table table
	SVG   template.HTML
}

// pageData is what the page says.
type pageData struct {
	Events, Discussions, Projects int64
	First, Last                   *time.Time // nil without events
	Panels                        []shown
	Style                         template.CSS
}

// writePage writes the page of a log whose star is built.
func writePage(ctx context.Context, store *eventstore.Store, path string, out io.Writer) error {
	data, err := readPage(ctx, store)
	if err != nil {
		return err
	}
	page, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := page.Execute(&text, data); err != nil {
		return fmt.Errorf("making the page: %w", err)
	}
	if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	_, err = fmt.Fprintf(out, "%s: %d events of %d discussions, %d charts, %d kB\n",
		path, data.Events, data.Discussions, len(data.Panels), text.Len()/1000)
	return err
}

// readPage asks everything of one moment, with the log's schema on the search path, as a BI tool would have it.
func readPage(ctx context.Context, store *eventstore.Store) (*pageData, error) {
	data := &pageData{Style: template.CSS(pageCSS)}
	moment := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return data, pgx.BeginTxFunc(ctx, store.Pool(), moment, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('search_path', $1, true)`, pgx.Identifier{store.Schema()}.Sanitize()); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `SELECT count(*), min(occurred_at), max(occurred_at) FROM events`).Scan(&data.Events, &data.First, &data.Last)
		if err != nil {
			return fmt.Errorf("counting events: %w", err)
		}
		err = tx.QueryRow(ctx, `SELECT (SELECT count(DISTINCT discussion_id) FROM fact_focus_group_sessions),
       (SELECT count(*) FROM dim_projects WHERE project_id <> '')`).Scan(&data.Discussions, &data.Projects)
		if err != nil {
			return fmt.Errorf("counting discussions and projects: %w", err)
		}
		for _, p := range panels() {
			s, err := show(ctx, tx, p)
			if err != nil {
				return fmt.Errorf("making the chart %q: %w", p.Title, err)
			}
			data.Panels = append(data.Panels, s)
		}
		return nil
	})
}

func show(ctx context.Context, tx pgx.Tx, p panel) (shown, error) {
	s := shown{panel: p}
	var err error
	if s.Table, err = query(ctx, tx, p.SQL); err != nil || len(s.Table.rows) == 0 {
		return s, err
	}
	svg, err := p.draw(s.Table)
	s.SVG = template.HTML(svg) // charts escapes the texts in it
	return s, err
}
