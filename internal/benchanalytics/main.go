// Command benchanalytics measures the star at the size of two years of a platform: what a dashboard waits for, what a refresh and
// the loading of facts take, and what a fact weighs.
//
//	go run ./internal/benchanalytics [-interactions 24000000] [-events 100000]
//
// It starts a server of its own with durable settings. Of the interactions all but those of a synthetic log are written straight
// into the fact table, as its owner may: what is measured there is reading and refreshing. Loading is measured by itself, on
// a log of -events events, from the log to the tables.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/devdb"
	"github.com/sight-platform/hindsight/internal/synthetic"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

func main() {
	interactions := flag.Int("interactions", 24_000_000, "rows of the largest fact")
	events := flag.Int("events", 100_000, "events that are loaded")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *interactions, *events); err != nil {
		fmt.Fprintln(os.Stderr, "benchanalytics:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, interactions, events int) (err error) {
	cluster, err := devdb.StartCluster(ctx, map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on",
		"jit": "off", "enable_partitionwise_aggregate": "on", "shared_buffers": "2GB", "work_mem": "64MB", "max_wal_size": "8GB", "checkpoint_timeout": "30min",
	})
	if err != nil {
		return err
	}
	defer func() { err = firstOf(err, cluster.Close()) }()
	pool, err := pgxpool.New(ctx, cluster.URL())
	if err != nil {
		return err
	}
	defer pool.Close()
	fmt.Printf("%-36s %12s %10s  %s\n", "what", "measured", "promised", "met")
	if err := etl(ctx, pool, events); err != nil {
		return fmt.Errorf("loading: %w", err)
	}
	star, err := fill(ctx, pool, interactions)
	if err != nil {
		return fmt.Errorf("filling: %w", err)
	}
	for _, q := range questions() {
		if err := ask(ctx, pool, q); err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
	}
	return newDay(ctx, pool, star, interactions)
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// report prints a figure; at most says what was promised.
func report(name string, took, atMost time.Duration, note string) {
	verdict, promised := "-", ""
	if atMost > 0 {
		verdict, promised = "yes", atMost.String()
		if took > atMost {
			verdict = "NO"
		}
	}
	fmt.Printf("%-36s %12s %10s  %-3s %s\n", name, took.Round(10*time.Microsecond), promised, verdict, note)
}

// open makes a log with a star of its own, and loads a synthetic platform's events into the log.
func open(ctx context.Context, pool *pgxpool.Pool, schema string, config synthetic.Config) (*analytics.Star, *projection.Runner, *eventstore.Store, error) {
	store, err := eventstore.New(pool, eventstore.Config{Schema: schema, Codec: focusgroup.Codec()})
	if err != nil {
		return nil, nil, nil, err
	}
	if err := store.Migrate(ctx); err != nil {
		return nil, nil, nil, err
	}
	if _, err := store.Import(ctx, synthetic.New(config).Source, eventstore.ImportConfig{}); err != nil {
		return nil, nil, nil, err
	}
	star, err := analytics.New(store, analytics.Config{})
	if err != nil {
		return nil, nil, nil, err
	}
	runner, err := projection.New(store, projection.Config{Projections: []projection.Projection{star}})
	if err == nil {
		err = runner.Migrate(ctx)
	}
	return star, runner, store, err
}

// build runs the star until all of the log is in it, and returns how long that took.
func build(ctx context.Context, runner *projection.Runner) (time.Duration, error) {
	started := time.Now()
	err := runner.CatchUp(ctx)
	return time.Since(started), err
}

func etl(ctx context.Context, pool *pgxpool.Pool, events int) error {
	_, runner, store, err := open(ctx, pool, "etl", synthetic.Config{Events: events, Months: 3})
	if err != nil {
		return err
	}
	took, err := build(ctx, runner)
	if err != nil {
		return err
	}
	var rows int
	err = pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM etl.fact_persona_interactions) + (SELECT count(*) FROM etl.fact_discussion_turns)
 + (SELECT count(*) FROM etl.fact_llm_usage) + (SELECT count(*) FROM etl.fact_survey_answers) + (SELECT count(*) FROM etl.fact_focus_group_sessions)`).Scan(&rows)
	settled, _ := store.Settled(ctx)
	report("loading", took, time.Duration(events)*5*time.Second/100_000, fmt.Sprintf("%d events, %d facts, %.0f events/s", settled, rows, float64(settled)/took.Seconds()))
	return err
}

// fill makes a star of two years whose largest fact has so many rows.
func fill(ctx context.Context, pool *pgxpool.Pool, interactions int) (*analytics.Star, error) {
	star, runner, _, err := open(ctx, pool, "star", synthetic.Config{Events: 60_000})
	if err != nil {
		return nil, err
	}
	if _, err := build(ctx, runner); err != nil {
		return nil, err
	}
	started := time.Now()
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	if err := fillFact(ctx, conn.Conn(), interactions); err != nil {
		return nil, err
	}
	for _, sql := range []string{
		`VACUUM (ANALYZE) star.fact_persona_interactions_v1`,
		`INSERT INTO star.analytics_dirty_v1 SELECT d + interval '12 hours', '' FROM generate_series('2023-01-01'::date, '2024-12-31', '1 day') AS d`,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return nil, err
		}
	}
	report("filling", time.Since(started), 0, "")
	done, err := star.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	report("refresh of all", done.Took, 0, fmt.Sprintf("%d days", done.Days))
	_, err = conn.Exec(ctx, `ANALYZE`)
	var bytes, rows int64
	if err == nil {
		err = pool.QueryRow(ctx, `SELECT sum(pg_total_relation_size(inhrelid))::bigint, (SELECT count(*) FROM star.fact_persona_interactions_v1)
  FROM pg_inherits WHERE inhparent = 'star.fact_persona_interactions_v1'::regclass`).Scan(&bytes, &rows)
	}
	fmt.Printf("%-36s %12.0f  bytes a row, its indexes among them; %d rows\n", "fact_persona_interactions", float64(bytes)/float64(max(rows, 1)), rows)
	return star, err
}

// fillFact writes the rows without the indexes by persona and the like, and makes those again.
func fillFact(ctx context.Context, conn *pgx.Conn, interactions int) error {
	rows, err := conn.Query(ctx, `SELECT indexrelid::regclass::text, replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ') FROM pg_index WHERE indrelid = 'star.fact_persona_interactions_v1'::regclass AND NOT indisprimary`)
	if err != nil {
		return err
	}
	type index struct{ Name, Definition string }
	indexes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[index])
	if err != nil {
		return err
	}
	statements := []string{`SET session_replication_role = replica`, `SET maintenance_work_mem = '1GB'`} // the keys hold by how the rows are made
	for _, i := range indexes {
		statements = append(statements, `DROP INDEX `+i.Name)
	}
	const batch = 1_000_000
	for from := 0; from < interactions; from += batch {
		statements = append(statements, fmt.Sprintf(fillSQL, from, min(from+batch, interactions), interactions))
	}
	for _, i := range indexes {
		statements = append(statements, i.Definition)
	}
	for _, sql := range append(statements, `RESET session_replication_role`) {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// fillSQL spreads rows 1 to 2 of 3 (its arguments) over two years, the personas and their projects.
const fillSQL = `
INSERT INTO star.fact_persona_interactions_v1 (position, timestamp, project_id, persona_id, user_id, interaction_type, duration_seconds, metadata)
SELECT 1000000000 + n, '2023-01-01Z'::timestamptz + (n::double precision / %[3]d) * interval '730 days', p.project_id, p.persona_id, p.user_id,
       (ARRAY['discussed', 'discussed', 'discussed', 'surveyed', 'edited'])[1 + n %% 5]::star.interaction_type_v1, 5 + n %% 90,
       '{"stream_id": "discussion-0193b2c4-5d6e-7f80-9a1b-2c3d4e5f6071", "event_type": "response"}'
  FROM generate_series(%[1]d::bigint, %[2]d::bigint - 1) AS n
  JOIN (SELECT row_number() OVER (ORDER BY persona_id) - 1 AS k, * FROM star.dim_personas WHERE persona_id <> '') AS p
    ON p.k = (n * 7919) %% (SELECT count(*) FROM star.dim_personas WHERE persona_id <> '')`

// newDay adds a day's worth of interactions and refreshes.
func newDay(ctx context.Context, pool *pgxpool.Pool, star *analytics.Star, interactions int) error {
	var took []time.Duration
	for day := range 3 {
		_, err := pool.Exec(ctx, `
INSERT INTO star.fact_persona_interactions_v1 (position, timestamp, project_id, persona_id, user_id, interaction_type, duration_seconds)
SELECT 2000000000 + $2::bigint * 10000000 + row_number() OVER (), timestamp - interval '1 minute' * $2::integer, project_id, persona_id, user_id, interaction_type, duration_seconds
  FROM star.fact_persona_interactions_v1 WHERE day = '2024-12-28' LIMIT $1::bigint`, interactions/730, day)
		if err == nil {
			_, err = pool.Exec(ctx, `INSERT INTO star.analytics_dirty_v1 VALUES ('2024-12-28 12:00Z', '')`)
		}
		if err != nil {
			return err
		}
		done, err := star.Refresh(ctx)
		if err != nil {
			return err
		}
		took = append(took, done.Took)
	}
	slices.Sort(took)
	report("refresh after a new day", took[1], time.Second, "the median of three")
	return nil
}
