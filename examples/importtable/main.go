// Command importtable brings a table of memory events into an event log: it makes a small table, imports it with progress
// and a rule for rows that cannot be events, reads a discussion back, and runs the import again, which finds nothing to do.
// It needs PostgreSQL from anywhere devdb can find one, and removes everything it made.
//
//	go run ./importtable
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/eventstore/importer"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "importtable:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	log, err := eventstoretest.Open(ctx, eventstore.Config{Codec: focusgroup.Codec()}) // a service has eventstore.New(pool, …)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close(ctx)) }()
	if err := makeTable(ctx, log.Pool, log.Schema()); err != nil {
		return err
	}

	say := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	config := importer.TableConfig{
		Name: "memory", Schema: log.Schema(), Table: "memory_events", StreamColumn: "discussion_id", Category: "discussion",
		BatchEvents: 1000,
		Skip: func(e *importer.RowError) string { // "" would end the import at this row
			say("left out: %v", e)
			return "reviewed: " + e.Error()
		},
		Progress: func(r importer.TableReport) { say("%d of %d rows", r.Events+r.Skipped, r.Rows) },
	}
	report, err := importer.FromTable(ctx, log.Store, log.Pool, config)
	if err != nil {
		return err
	}
	say("%d events, %d rows left out", report.Events, report.Skipped)

	discussion, err := focusgroup.Load(ctx, log.Store, "discussion-7")
	if err != nil {
		return err
	}
	ann := discussion.Participants[0]
	say("discussion-7: %d events, %s said %d words", discussion.Version, ann.Name, ann.Words)

	again, err := importer.FromTable(ctx, log.Store, log.Pool, config)
	if err != nil {
		return err
	}
	say("again: %d events, %d in all", again.Events, again.Total.Events)
	return nil
}

// makeTable makes what a service may have today: 100 discussions of the last year, one row of them without a body.
func makeTable(ctx context.Context, pool *pgxpool.Pool, schema string) error {
	_, err := pool.Exec(ctx, `
CREATE TABLE `+schema+`.memory_events (
    id bigint PRIMARY KEY, event_type text, event_data jsonb, created_at timestamptz, discussion_id bigint);
INSERT INTO `+schema+`.memory_events
SELECT i, 'response', jsonb_build_object('persona_id', 'ann', 'persona_name', 'Ann', 'text', 'The green lid, ' || i),
       now() - interval '1 year' + i * interval '3 hours', i % 100
  FROM generate_series(1, 2500) AS i;
UPDATE `+schema+`.memory_events SET event_data = NULL WHERE id = 42`)
	return err
}
