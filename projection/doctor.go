package projection

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
)

// What [Runner.Doctor] finds.
const (
	// FindingNotRunning: a projection is stopped or paused.
	FindingNotRunning eventstore.FindingKind = "projection_not_running"
	// FindingNoWorker: nobody holds some of a projection's shards.
	FindingNoWorker eventstore.FindingKind = "projection_without_worker"
	// FindingLag: events have waited for a projection for 30 s or longer.
	FindingLag eventstore.FindingKind = "projection_lag"
	// FindingParked: events could not be applied, or wait behind one that could not.
	FindingParked eventstore.FindingKind = "projection_parked"
)

// lagWorthSaying is how old an event may be that waits for its projection.
const lagWorthSaying = 30 * time.Second

// Doctor examines the runner's projections and says in words what is wrong with them, the most severe first of each.
// See also [eventstore.Store.Doctor], which says what holds readers of the log back.
func (r *Runner) Doctor(ctx context.Context) ([]eventstore.Finding, error) {
	all, err := r.Status(ctx)
	if err != nil {
		return nil, err
	}
	var findings []eventstore.Finding
	add := func(kind eventstore.FindingKind, severity slog.Level, format string, args ...any) {
		findings = append(findings, eventstore.Finding{Kind: kind, Severity: severity, Text: fmt.Sprintf(format, args...)})
	}
	for _, s := range all {
		name := fmt.Sprintf("projection %s, version %d,", s.Name, s.Version)
		switch s.State {
		case Stopped:
			add(FindingNotRunning, slog.LevelError, "%s stopped at %s: %s. Mend the cause, then call Resume.", name, s.ChangedAt.Format(time.RFC3339), s.Reason)
		case Paused:
			add(FindingNotRunning, slog.LevelWarn, "%s is paused since %s: %s. It is %d events behind. Resume lets it go on.", name, s.ChangedAt.Format(time.RFC3339), s.Reason, s.Lag)
		case Running:
			r.examineRunning(s, name, add)
		}
		if s.ParkedEvents > 0 {
			add(FindingParked, slog.LevelWarn, "%s has %d events of %d keys parked. Parked lists them with their errors; Retry or Skip them.", name, s.ParkedEvents, s.ParkedKeys)
		}
	}
	return findings, nil
}

func (r *Runner) examineRunning(s Status, name string, add func(eventstore.FindingKind, slog.Level, string, ...any)) {
	free := 0
	for _, shard := range s.Shards {
		if shard.Worker == "" {
			free++
		}
	}
	if free > 0 {
		add(FindingNoWorker, slog.LevelError, "%s has %d of %d shards that no worker holds: is there a process that runs it? A shard is taken within %v.", name, free, len(s.Shards), r.config.Lease)
	}
	if s.Behind > lagWorthSaying {
		slowest := s.Shards[0]
		for _, shard := range s.Shards {
			if shard.Position < slowest.Position {
				slowest = shard
			}
		}
		add(FindingLag, slog.LevelWarn, "%s is %v behind, %d events; the slowest is shard %d, held by %q, which last wrote at %s.",
			name, s.Behind.Round(time.Second), s.Lag, slowest.Shard, slowest.Worker, slowest.UpdatedAt.Format(time.RFC3339))
	}
}
