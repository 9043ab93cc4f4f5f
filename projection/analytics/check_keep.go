package analytics

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
	"github.com/sight-platform/hindsight/projection"
)

// Tables of the runs of checks.
const (
	tableRuns     = "analytics_check_runs"
	tableResults  = "analytics_check_results"
	tableFailures = "analytics_check_failures"
)

const runsSQL = `CREATE TABLE {{table}} (
    run        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at timestamptz NOT NULL,
    seconds    double precision NOT NULL,
    up_to      bigint NOT NULL
);
CREATE INDEX ON {{table}} (started_at);
COMMENT ON TABLE {{table}} IS 'A row a run of the quality checks, of the last 90 days.';
COMMENT ON COLUMN {{table}}.run IS 'Key.';
COMMENT ON COLUMN {{table}}.started_at IS 'When it began.';
COMMENT ON COLUMN {{table}}.seconds IS 'Seconds it took.';
COMMENT ON COLUMN {{table}}.up_to IS 'Position of the log that the facts had come to.';`

const resultsSQL = `CREATE TABLE {{table}} (
    run        bigint NOT NULL REFERENCES {{runs}} ON DELETE CASCADE,
    check_name text COLLATE "C" NOT NULL,
    outcome    text NOT NULL CHECK (outcome IN ('passed', 'failed', 'errored', 'skipped')),
    severity   text CHECK (severity IN ('warn', 'error')),
    failing    bigint NOT NULL,
    total      bigint NOT NULL,
    note       text NOT NULL,
    seconds    double precision NOT NULL,
    reached    bigint,
    PRIMARY KEY (run, check_name)
);
COMMENT ON TABLE {{table}} IS 'A row a check and run.';
COMMENT ON COLUMN {{table}}.run IS 'The run.';
COMMENT ON COLUMN {{table}}.check_name IS 'The check.';
COMMENT ON COLUMN {{table}}.outcome IS 'passed, failed, errored (it could not be asked) or skipped (there was nothing to judge).';
COMMENT ON COLUMN {{table}}.severity IS 'Of a failure: warn or error; NULL for other outcomes.';
COMMENT ON COLUMN {{table}}.failing IS 'Rows that fail.';
COMMENT ON COLUMN {{table}}.total IS 'Rows that were looked at; 0 where they are not counted.';
COMMENT ON COLUMN {{table}}.note IS 'Why it errored or was skipped, and what else there is to know; empty for nothing.';
COMMENT ON COLUMN {{table}}.seconds IS 'Seconds it took.';
COMMENT ON COLUMN {{table}}.reached IS 'Of a check for completeness: the position from which the next run goes on to older events; NULL for others.';`

const failuresSQL = `CREATE TABLE {{table}} (
    run        bigint NOT NULL,
    check_name text COLLATE "C" NOT NULL,
    n          integer NOT NULL,
    failing    jsonb NOT NULL,
    PRIMARY KEY (run, check_name, n),
    FOREIGN KEY (run, check_name) REFERENCES {{results}} ON DELETE CASCADE
);
COMMENT ON TABLE {{table}} IS 'The first 20 failing rows of each check and run.';
COMMENT ON COLUMN {{table}}.run IS 'The run.';
COMMENT ON COLUMN {{table}}.check_name IS 'The check.';
COMMENT ON COLUMN {{table}}.n IS 'Number of the row, from 1.';
COMMENT ON COLUMN {{table}}.failing IS 'What the check says of the row.';`

// checkTables are where the runs of checks are kept.
func (s *Star) checkTables() []projection.Table {
	return []projection.Table{
		{Name: tableRuns, SQL: runsSQL},
		{Name: tableResults, SQL: withTable(resultsSQL, "runs", s.table(tableRuns))},
		{Name: tableFailures, SQL: withTable(failuresSQL, "results", s.table(tableResults))},
	}
}

// keep writes a report down, and drops those that are too old.
func (s *Star) keep(ctx context.Context, report *Report) error {
	var names, outcomes, notes, failedNames []string
	var severities []*string
	var failing, totals []int64
	var seconds []float64
	var reached []*int64
	var numbers []int32
	var failed []json.RawMessage
	for _, r := range report.Results {
		names, outcomes, notes = append(names, r.Check), append(outcomes, string(r.Outcome)), append(notes, r.Note)
		failing, totals, seconds = append(failing, r.Failing), append(totals, r.Total), append(seconds, r.Took.Seconds())
		var severity *string
		if text := string(r.Severity); text != "" {
			severity = &text
		}
		severities, reached = append(severities, severity), append(reached, (*int64)(r.reached))
		for i, row := range r.Rows {
			failedNames, numbers, failed = append(failedNames, r.Check), append(numbers, int32(i+1)), append(failed, row)
		}
	}
	return pg.InTx(ctx, s.store.Pool(), func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `INSERT INTO `+s.table(tableRuns)+` (started_at, seconds, up_to) VALUES ($1::timestamptz, $2::double precision, $3::bigint) RETURNING run`,
			report.StartedAt, report.Took.Seconds(), int64(report.UpTo)).Scan(&report.Run)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
INSERT INTO `+s.table(tableResults)+`
SELECT $1::bigint, * FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::double precision[], $9::bigint[])`,
			report.Run, names, outcomes, severities, failing, totals, notes, seconds, reached)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO `+s.table(tableFailures)+` SELECT $1::bigint, * FROM unnest($2::text[], $3::integer[], $4::jsonb[])`,
			report.Run, failedNames, numbers, failed)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM `+s.table(tableRuns)+` WHERE started_at < $1::timestamptz`, time.Now().Add(-keptRuns))
		return err
	})
}
