package eventstore

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Filter chooses events of the global log. Its fields are combined with AND, the values of a list with OR; the zero
// value chooses all.
type Filter struct {
	// Categories of the streams: "discussion", "persona" …
	Categories []string
	// Project of the streams, as the append that began them named it.
	Project string
	// Types of the events.
	Types []string
	// Recorded bounds recorded_at. It also spares the reader the other months.
	Recorded TimeRange
	// Occurred bounds occurred_at.
	Occurred TimeRange
}

// TimeRange is a time from From up to, but not including, Until. A zero bound is open.
type TimeRange struct{ From, Until time.Time }

func (r TimeRange) validate(field string) error {
	if !r.From.IsZero() && !r.Until.IsZero() && !r.From.Before(r.Until) {
		return &InvalidError{Index: -1, Field: field, Reason: "ends before it begins"}
	}
	return nil
}

func (f Filter) validate() error {
	if err := f.Recorded.validate("Filter.Recorded"); err != nil {
		return err
	}
	if err := f.Occurred.validate("Filter.Occurred"); err != nil {
		return err
	}
	for _, category := range f.Categories {
		if category == "" || strings.Contains(category, "-") || checkText(category) != "" {
			return &InvalidError{Index: -1, Field: "Filter.Categories", Reason: fmt.Sprintf("hold %q, which no stream has", category)}
		}
	}
	for _, name := range f.Types {
		if reason := checkType(name); reason != "" {
			return &InvalidError{Index: -1, Field: "Filter.Types", Reason: "hold a name that " + reason}
		}
	}
	if reason := checkProject(f.Project); reason != "" {
		return &InvalidError{Index: -1, Field: "Filter.Project", Reason: reason}
	}
	return nil
}

func (f Filter) empty() bool {
	return len(f.Categories)+len(f.Types) == 0 && f.Project == "" && f.Recorded == TimeRange{} && f.Occurred == TimeRange{}
}

// where is the filter as SQL conditions, each beginning with AND; parameters are numbered from first.
func (f Filter) where(first int) (sql string, args []any) {
	var out strings.Builder
	param := func(value any) string {
		args = append(args, value)
		return "$" + strconv.Itoa(first+len(args)-1)
	}
	if len(f.Categories) > 0 { // a range on the id's prefix: events have no column for it
		ranges := make([]string, len(f.Categories))
		for i, category := range f.Categories {
			ranges[i] = "stream_id >= " + param(category+"-") + "::text AND stream_id < " + param(category+".") + "::text"
		}
		out.WriteString(" AND (" + strings.Join(ranges, " OR ") + ")")
	}
	if f.Project != "" {
		out.WriteString(" AND stream_id IN (SELECT s.stream_id FROM {{schema}}.streams s WHERE s.project_id = " + param(f.Project) + "::text)")
	}
	if len(f.Types) > 0 {
		out.WriteString(" AND event_type = ANY(" + param(slices.Clone(f.Types)) + "::text[])")
	}
	for _, r := range []struct {
		column string
		TimeRange
	}{{"recorded_at", f.Recorded}, {"occurred_at", f.Occurred}} {
		if !r.From.IsZero() {
			out.WriteString(" AND " + r.column + " >= " + param(r.From) + "::timestamptz")
		}
		if !r.Until.IsZero() {
			out.WriteString(" AND " + r.column + " < " + param(r.Until) + "::timestamptz")
		}
	}
	return out.String(), args
}

// months keeps the months that can hold what the filter chooses.
func (f Filter) months(all []time.Time) []time.Time {
	last := f.Recorded.Until
	if !last.IsZero() {
		last = last.Add(-time.Microsecond)
	}
	return between(all, f.Recorded.From, last)
}
