package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/corpus"
)

//go:embed recordings/*.ndjson
var embedded embed.FS

// source is a recording to import.
type source struct {
	name string
	io.ReadCloser
}

type sources []source

func (s sources) close() {
	for _, source := range s {
		_ = source.Close()
	}
}

// openSources opens the recording, or the demo's own if there is none.
func openSources(recording string) (sources, error) {
	if recording != "" {
		f, err := os.Open(recording)
		if err != nil {
			return nil, fmt.Errorf("opening the recording: %w", err)
		}
		return sources{{filepath.Base(recording), f}}, nil
	}
	entries, err := embedded.ReadDir("recordings")
	if err != nil {
		return nil, err
	}
	var all sources
	for _, entry := range entries {
		f, err := embedded.Open("recordings/" + entry.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, source{entry.Name(), f})
	}
	return all, nil
}

// showImport imports the sources and returns the first discussion in them.
func showImport(ctx context.Context, page *page, log *demoLog, all sources) (first eventstore.StreamID, err error) {
	page.section("1. Import", "focusgroup.Import(ctx, store, lines)")
	var total focusgroup.Imported
	began := time.Now()
	for _, source := range all {
		done, err := focusgroup.Import(ctx, log.store, noting(&first, corpus.ReadAny(source)))
		if err != nil {
			return "", fmt.Errorf("importing %s: %w", source.name, err)
		}
		page.line("%-28s %s in %s, %s", source.name, plural(done.Events, "event"), plural(done.Streams, "stream"), days(done))
		total.Events += done.Events
		total.Streams += done.Streams
	}
	seconds := time.Since(began).Seconds()
	if first == "" {
		return "", errors.New("importing: the recording holds no discussion")
	}
	page.line("Imported %s of %s in %.2f s: %s events/s", plural(total.Events, "event"), plural(total.Streams, "stream"),
		seconds, thousands(int(float64(total.Events)/seconds)))
	return first, showMonths(ctx, page, log)
}

func days(done focusgroup.Imported) string {
	first, last := done.First.Format(time.DateOnly), done.Last.Format(time.DateOnly)
	if first == last {
		return "of " + first
	}
	return "of " + first + " to " + last
}

// noting passes lines on and notes the first discussion.
func noting(first *eventstore.StreamID, lines iter.Seq2[focusgroup.Line, error]) iter.Seq2[focusgroup.Line, error] {
	return func(yield func(focusgroup.Line, error) bool) {
		for line, err := range lines {
			if *first == "" && line.StreamID.Category() == "discussion" {
				*first = line.StreamID
			}
			if !yield(line, err) {
				return
			}
		}
	}
}

// showMonths reads the month registry, which is a table for everyone to query.
func showMonths(ctx context.Context, page *page, log *demoLog) error {
	rows, err := log.pool.Query(ctx, `SELECT to_char(m.month, 'YYYY-MM'), m.state, count(e.position)
 FROM `+log.schema+`.months m LEFT JOIN `+log.schema+`.events e ON date_trunc('month', e.recorded_at AT TIME ZONE 'UTC')::date = m.month
 GROUP BY m.month, m.state ORDER BY m.month`)
	if err != nil {
		return fmt.Errorf("reading the months: %w", err)
	}
	months, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var month, state string
		var events int
		err := row.Scan(&month, &state, &events)
		return fmt.Sprintf("%s (%s, %s)", month, state, plural(events, "event")), err
	})
	if err != nil {
		return fmt.Errorf("reading the months: %w", err)
	}
	page.line("The log keeps events by the month they were recorded in: %s", firstFew(months, 4))
	return nil
}
