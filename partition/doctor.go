package partition

import (
	"context"
	"fmt"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
)

// Finding is something that [Months.Doctor] found.
type Finding struct {
	Month  time.Time // zero where it is about none
	Text   string    // what it is and what to do
	Remedy string    // SQL that mends it; empty where there is a choice to make
}

// abandoned is how long a checkpoint that is behind has not moved when the Doctor names it.
const abandoned = 24 * time.Hour

// Doctor names what stands in the way of months: steps that were interrupted or take long, tables that should be there or should not,
// checkpoints that nobody moves on. It changes nothing. A healthy log has no findings.
func (m *Months) Doctor(ctx context.Context) ([]Finding, error) {
	months, err := m.list(ctx, m.pool)
	if err != nil {
		return nil, err
	}
	var found []Finding
	add := func(month registered, text, remedy string) {
		found = append(found, Finding{Month: month.Month, Text: fmt.Sprintf("month %s is %s: ", month, month.State) + text, Remedy: remedy})
	}
	var last eventstore.Position
	past := 0
	for _, month := range months {
		if month.Over {
			past++
		}
	}
	for n, month := range months {
		table := m.quoted.SQL("{{schema}}." + month.leaf())
		stale := time.Since(month.ChangedAt) > abandoned
		switch {
		case month.Leaving:
			add(month, "its detachment is half done; the next run ends it", m.quoted.SQL(`ALTER TABLE {{schema}}.events DETACH PARTITION `)+table+` FINALIZE`)
		case month.State == Dropped && month.Stands:
			add(month, "but there is a table "+table+", which nothing reads", "")
		case month.State != Dropped && !month.Stands:
			add(month, "but its table "+table+" is gone: reads of it fail. Restore it from a backup", "")
		case month.State != Dropped && month.State != Detached && !month.Attached:
			add(month, "but its table is no partition: reads in transactions do not find it", "")
		case month.State == Open && time.Since(month.Month.AddDate(0, 1, 0)) > abandoned:
			add(month, "it ended more than a day ago. Does anything call Run or Maintain?", "")
		case (month.State == Sealing || month.State == Sealed && month.Archive != "" || month.State == Exported || month.State == Verified) && stale:
			add(month, fmt.Sprintf("since %s. Call Archive to see what it waits for", month.ChangedAt.UTC().Format(time.DateTime)), "")
		case month.State == Sealed && m.config.Archive != nil && n < past-m.config.Online && stale:
			add(month, fmt.Sprintf("since %s, and older than the %d months that stay. Call Archive to see why it does not go on", month.ChangedAt.UTC().Format(time.DateTime), m.config.Online), "")
		case month.State == Detached && month.Since > m.config.Quarantine+abandoned:
			add(month, "and its quarantine is over for more than a day. Call Archive to see what it waits for", "")
		}
		if month.Over && month.State != Open {
			last = max(last, month.Last)
		}
	}
	behind, err := m.behind(ctx, m.pool, last)
	for _, c := range behind {
		what, mend := "stands at", "Run the projection"
		if c.Parked {
			what, mend = "has parked events from", "Retry or Skip them"
		}
		if time.Since(c.UpdatedAt) > abandoned {
			found = append(found, Finding{Text: fmt.Sprintf("checkpoint %s version %d %s position %d since %s, and months up to position %d cannot be archived. "+
				"%s, or Release it with a reason", c.Name, c.Version, what, c.Position, c.UpdatedAt.UTC().Format(time.DateTime), last, mend)})
		}
	}
	return found, err
}
