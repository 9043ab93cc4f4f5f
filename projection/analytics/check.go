package analytics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
)

// Check is a question to the star, whose answer is the rows that are wrong. It is asked by SQL or by Go; a Check of
// Config.Checks that has neither changes the thresholds of the built-in one of its name.
type Check struct {
	// Name is lower-case letters, digits, underscores and points, up to 80; begin it with the table's.
	Name string
	// About says what a failing row means.
	About string
	// SQL is a SELECT of the failing rows. {{name}} stands for a table of the star, {{schema}} for the log's schema.
	SQL string
	// Total is a SELECT of how many rows there are to look at; the check is skipped where that is 0. Defaults to none.
	Total string
	// Run asks in Go, in a transaction that only reads, on one snapshot. [ErrSkip] says that there is nothing to judge.
	Run func(ctx context.Context, tx pgx.Tx) (Findings, error)
	// Warn and Error are from how many failing rows on the check fails, with which severity; 0 is never. Error defaults to 1
	// where Warn is 0.
	Warn, Error int64
	// Mostly is the share of the rows that must not fail, such as 0.95, for the check to pass whatever Warn and Error say. It
	// needs a total. Defaults to all.
	Mostly float64
	// Timeout bounds the check. Defaults to 5 minutes; facts of 4 million rows take 15 s.
	Timeout time.Duration
}

// Findings are what a check's Run has found.
type Findings struct {
	// Failing rows of Total; Total may be 0 where it is not known.
	Failing, Total int64
	// Rows that fail, as JSON shows them; the first ones are kept.
	Rows []any
	// Note says what else there is to know.
	Note string

	reached *eventstore.Position // where a walk through the log goes on with the next run
}

// ErrSkip is what a check's Run returns where it has nothing to judge, wrapped in the reason.
var ErrSkip = errors.New("skipped")

// Outcome is how a check went.
type Outcome string

// The outcomes.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Errored Outcome = "errored" // it could not be asked
	Skipped Outcome = "skipped" // there was nothing to judge
)

// Severity is how bad a failure is.
type Severity string

// The severities.
const (
	SeverityWarn  Severity = "warn"
	SeverityError Severity = "error"
)

// Result is what a check has found.
type Result struct {
	Check, About   string
	Outcome        Outcome
	Severity       Severity // of a failure
	Failing, Total int64
	Rows           []json.RawMessage // the first failing rows
	Note           string            // why it errored or was skipped, and what else there is to know
	Took           time.Duration

	reached *eventstore.Position
}

// Report is a run of all checks. It is kept in the tables analytics_check_runs, _results and _failures for 90 days, or until
// the projection is reset.
type Report struct {
	Run       int64
	StartedAt time.Time
	Took      time.Duration
	// UpTo is the position that the facts had come to when the run began.
	UpTo    eventstore.Position
	Results []Result
}

const (
	keptRows       = 20 // of each check and run
	keptRuns       = 90 * 24 * time.Hour
	defaultTimeout = 5 * time.Minute
)

func (c Check) withDefaults() Check {
	if c.Warn == 0 && c.Error == 0 {
		c.Error = 1
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	return c
}

func (c Check) validate(builtin bool) error {
	fail := func(reason string) error {
		return &eventstore.InvalidError{Index: -1, Field: "Check " + c.Name, Reason: reason}
	}
	asks := c.SQL != "" || c.Run != nil
	named, _ := regexp.MatchString(`^[a-z_][a-z0-9_.]{0,79}$`, c.Name)
	switch {
	case !named:
		return fail("is not named in up to 80 lower-case letters, digits, underscores and points")
	case c.SQL != "" && c.Run != nil:
		return fail("has both SQL and Run")
	case !asks && !builtin:
		return fail("has neither SQL nor Run, and there is no built-in one of its name")
	case asks && c.About == "":
		return fail("has no About")
	case !asks && (c.About != "" || c.Total != ""):
		return fail("has neither SQL nor Run: only thresholds can be changed")
	case c.Warn < 0 || c.Error < 0 || c.Timeout < 0 || c.Mostly < 0 || c.Mostly > 1:
		return fail("has a threshold out of range")
	case c.Mostly > 0 && c.SQL != "" && c.Total == "":
		return fail("has a Mostly, which needs a Total")
	}
	return nil
}

// checks are the built-in ones, with the thresholds of the configured ones, and those.
func (s *Star) checks() ([]Check, error) {
	all, err := s.builtinChecks()
	if err != nil {
		return nil, err
	}
	at := map[string]int{}
	for i, c := range all {
		at[c.Name] = i
	}
	given := map[string]bool{}
	for _, c := range s.config.Checks {
		i, known := at[c.Name]
		if err := c.validate(known); err != nil {
			return nil, err
		}
		if given[c.Name] {
			return nil, &eventstore.InvalidError{Index: -1, Field: "Config.Checks", Reason: "name " + c.Name + " twice"}
		}
		given[c.Name] = true
		switch {
		case !known:
			all = append(all, c)
		case c.SQL == "" && c.Run == nil:
			if c.Warn != 0 || c.Error != 0 {
				all[i].Warn, all[i].Error = c.Warn, c.Error
			}
			all[i].Mostly, all[i].Timeout = c.Mostly, c.Timeout
		default:
			all[i] = c
		}
	}
	for i := range all {
		all[i] = all[i].withDefaults()
		if all[i].Mostly > 0 && all[i].SQL != "" && all[i].Total == "" {
			return nil, &eventstore.InvalidError{Index: -1, Field: "Check " + all[i].Name, Reason: "counts no total, which Mostly needs"}
		}
	}
	return all, nil
}

// Check asks all checks, the built-in ones and those of Config.Checks, one after the other, and keeps what they found. An error
// of one is its outcome, and does not stop the others; Check itself fails only where the star is not there, or ctx ends. It
// takes two connections of the store's pool at most.
func (s *Star) Check(ctx context.Context) (Report, error) {
	checks, err := s.checks()
	if err != nil {
		return Report{}, err
	}
	report := Report{StartedAt: time.Now().UTC()}
	at, err := s.places(ctx, s.store.Pool())
	if err != nil {
		return report, fmt.Errorf("checking the star: %w", err)
	}
	report.UpTo = at.upTo
	for _, c := range checks {
		result := s.ask(ctx, c)
		if ctx.Err() != nil {
			return report, fmt.Errorf("checking the star: %w", ctx.Err())
		}
		report.Results = append(report.Results, result)
	}
	report.Took = time.Since(report.StartedAt)
	if err := s.keep(ctx, &report); err != nil {
		return report, fmt.Errorf("keeping the results of checks: %w", err)
	}
	return report, nil
}
