package analytics

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
)

// graceTime is how much longer than its statements a check may take: the server ends a statement, the context the rest.
const graceTime = 5 * time.Second

// ask runs one check in a transaction of its own, which only reads.
func (s *Star) ask(ctx context.Context, c Check) Result {
	started := time.Now()
	result := Result{Check: c.Name, About: c.About}
	bounded, cancel := context.WithTimeout(ctx, c.Timeout+graceTime)
	defer cancel()
	var found Findings
	err := pgx.BeginTxFunc(bounded, s.store.Pool(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
		timeout := strconv.FormatInt(c.Timeout.Milliseconds(), 10)
		if _, err := tx.Exec(bounded, `SELECT set_config('statement_timeout', $1::text, true)`, timeout); err != nil {
			return err
		}
		if c.Run != nil {
			found, err = runGuarded(bounded, tx, c)
		} else {
			found, err = s.askSQL(bounded, tx, c)
		}
		return err
	})
	result.Failing, result.Total, result.Note = found.Failing, found.Total, found.Note
	if err == nil || errors.Is(err, ErrSkip) {
		result.reached = found.reached
	}
	if err == nil {
		result.Rows, err = firstRows(found.Rows)
	}
	switch {
	case errors.Is(err, ErrSkip):
		result.Outcome, result.Note = Skipped, err.Error()
	case err != nil:
		result.Outcome, result.Note = Errored, err.Error()
	default:
		result.Outcome, result.Severity = c.judge(found)
	}
	result.Note = cleanText(result.Note)
	result.Took = time.Since(started)
	return result
}

// runGuarded bears what a user's code may do.
func runGuarded(ctx context.Context, tx pgx.Tx, c Check) (found Findings, err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("panic: %v", value)
		}
	}()
	return c.Run(ctx, tx)
}

func (s *Star) askSQL(ctx context.Context, tx pgx.Tx, c Check) (found Findings, err error) {
	if c.Total != "" {
		if err := tx.QueryRow(ctx, s.fillCheck(c.Total)).Scan(&found.Total); err != nil {
			return found, fmt.Errorf("counting the total: %w", err)
		}
		if found.Total == 0 {
			return found, fmt.Errorf("%w: there is nothing to look at", ErrSkip)
		}
	}
	var rows []json.RawMessage
	err = tx.QueryRow(ctx, `
WITH failing AS MATERIALIZED (`+s.fillCheck(c.SQL)+`
), kept AS (SELECT * FROM failing LIMIT $1::bigint)
SELECT (SELECT count(*) FROM failing), (SELECT coalesce(jsonb_agg(to_jsonb(kept)), '[]') FROM kept)`, keptRows).Scan(&found.Failing, &rows)
	for _, row := range rows {
		found.Rows = append(found.Rows, row)
	}
	return found, err
}

func (s *Star) fillCheck(sql string) string {
	return s.fill(pg.QuoteSchema(s.store.Schema()).SQL(sql))
}

func firstRows(rows []any) ([]json.RawMessage, error) {
	var kept []json.RawMessage
	for _, row := range rows[:min(len(rows), keptRows)] {
		text, err := json.Marshal(row)
		if err != nil {
			return nil, fmt.Errorf("a failing row as JSON: %w", err)
		}
		kept = append(kept, cleanJSON(text))
	}
	return kept, nil
}

// cleanText leaves out what PostgreSQL's text cannot hold.
func cleanText(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\ufffd"), "\x00", "\ufffd")
}

// cleanJSON leaves out what a jsonb cannot hold: invalid UTF-8, \u0000 and halves of surrogates, but no escaped backslashes.
func cleanJSON(text json.RawMessage) json.RawMessage {
	escapes := regexp.MustCompile(`\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u0000|\\u[dD][89a-fA-F][0-9a-fA-F]{2}`)
	return escapes.ReplaceAllFunc(bytes.ToValidUTF8(text, []byte("\ufffd")), func(found []byte) []byte {
		if len(found) == len(`\u0000`) {
			return []byte(`\ufffd`)
		}
		return found
	})
}

// exact is more than floating-point numbers err by in a product: a share at its boundary passes.
const exact = 1 - 1e-15

// judge holds what was found against the thresholds.
func (c Check) judge(found Findings) (Outcome, Severity) {
	if c.Mostly > 0 && found.Total > 0 && float64(found.Total-found.Failing) >= exact*c.Mostly*float64(found.Total) {
		return Passed, ""
	}
	switch {
	case c.Error > 0 && found.Failing >= c.Error:
		return Failed, SeverityError
	case c.Warn > 0 && found.Failing >= c.Warn:
		return Failed, SeverityWarn
	}
	return Passed, ""
}

// OK says that no check errored, or failed by more than a warning.
func (r Report) OK() bool {
	for _, result := range r.Results {
		if result.Outcome == Errored || result.Outcome == Failed && result.Severity == SeverityError {
			return false
		}
	}
	return true
}

// String is the report for people: a line of sums, and the checks that failed or errored, with a failing row each.
func (r Report) String() string {
	counts := map[Outcome]int{}
	for _, result := range r.Results {
		counts[result.Outcome]++
	}
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "checks of %s up to position %d: %d passed, %d failed, %d errored, %d skipped, in %s",
		r.StartedAt.Format(time.RFC3339), r.UpTo, counts[Passed], counts[Failed], counts[Errored], counts[Skipped], r.Took.Round(time.Millisecond))
	var skipped []string
	for _, result := range r.Results {
		switch result.Outcome {
		case Passed:
		case Skipped:
			skipped = append(skipped, result.Check)
		default:
			_, _ = fmt.Fprintf(&b, "\n%s", result)
		}
	}
	if len(skipped) > 0 {
		_, _ = fmt.Fprintf(&b, "\nskipped  %s", strings.Join(skipped, ", "))
	}
	return b.String()
}

// String is the result for people.
func (r Result) String() string {
	text := fmt.Sprintf("%-8s %s", r.Outcome, r.Check)
	if r.Outcome == Failed {
		text += fmt.Sprintf(" (%s): %d", r.Severity, r.Failing)
		if r.Total > 0 {
			text += fmt.Sprintf(" of %d", r.Total)
		}
		text += ": " + r.About
	}
	if r.Note != "" {
		text += ": " + r.Note
	}
	if len(r.Rows) > 0 {
		text += "\n         " + string(r.Rows[0])
	}
	return text
}
