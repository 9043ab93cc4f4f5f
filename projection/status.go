package projection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
)

// State says whether a projection runs.
type State string

// Running is the state of a projection that workers work on, Paused that of one that an operator has halted, Stopped that of
// one that a worker has halted, for the reason given.
const (
	Running State = "running"
	Paused  State = "paused"
	Stopped State = "stopped"
)

// Status is how a projection is at a moment.
type Status struct {
	Name      string
	Version   int
	State     State
	Reason    string // why it is stopped or paused
	ChangedAt time.Time
	Shards    []ShardStatus
	// Position that all shards have come to.
	Position eventstore.Position
	// Inline says that the appends do the work: it is never behind.
	Inline bool
	// Lag is how many settled events of all types are after Position; from 100,000 on, the difference of the positions.
	Lag int64
	// Behind is the age of the first event after Position that the projection wants; 0 without one.
	Behind time.Duration
	// ParkedKeys and ParkedEvents could not be applied, or wait behind one that could not.
	ParkedKeys, ParkedEvents int
}

// ShardStatus is how a shard is.
type ShardStatus struct {
	Shard        int
	Position     eventstore.Position
	UpdatedAt    time.Time
	Worker       string // that holds it; empty without one
	ParkedKeys   int
	ParkedEvents int
}

// statusRow is a row of sql/status.sql.
type statusRow struct {
	Name                     string
	Version                  int
	State                    State
	Inline                   bool
	Reason                   string
	ChangedAt                time.Time
	Shard                    int
	Position                 int64
	UpdatedAt                time.Time
	Worker                   string
	ParkedKeys, ParkedEvents int
}

// Status tells how the runner's projections are, whoever runs them.
func (r *Runner) Status(ctx context.Context) ([]Status, error) {
	settled, err := r.store.Settled(ctx)
	if err != nil {
		return nil, err
	}
	names, versions := r.namesAndVersions()
	rows, err := r.pool.Query(ctx, r.sql["status"], names, versions)
	if err != nil {
		return nil, fmt.Errorf("reading the projections' status: %w", explained(err))
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[statusRow])
	if err != nil {
		return nil, fmt.Errorf("reading the projections' status: %w", explained(err))
	}
	var all []Status
	for _, row := range found {
		if n := len(all); n == 0 || all[n-1].Name != row.Name {
			all = append(all, Status{
				Name: row.Name, Version: row.Version, State: row.State, Inline: row.Inline, Reason: row.Reason, ChangedAt: row.ChangedAt.UTC(),
				Position: eventstore.Position(row.Position),
			})
		}
		s := &all[len(all)-1]
		s.Shards = append(s.Shards, ShardStatus{
			Shard: row.Shard, Position: eventstore.Position(row.Position), UpdatedAt: row.UpdatedAt.UTC(), Worker: row.Worker,
			ParkedKeys: row.ParkedKeys, ParkedEvents: row.ParkedEvents,
		})
		s.Position = min(s.Position, eventstore.Position(row.Position))
		s.ParkedKeys += row.ParkedKeys
		s.ParkedEvents += row.ParkedEvents
	}
	for i := range all {
		if err := r.measureLag(ctx, &all[i], settled); err != nil {
			return nil, err
		}
	}
	return all, nil
}

const countAtMost = 100_000

func (r *Runner) measureLag(ctx context.Context, s *Status, settled eventstore.Position) error {
	if s.Inline && s.State == Running {
		s.Position = settled
	}
	if s.Position >= settled {
		return nil
	}
	if err := r.pool.QueryRow(ctx, r.sql["count_events"], position(s.Position), position(settled), countAtMost).Scan(&s.Lag); err != nil {
		return fmt.Errorf("counting what %s has still to do: %w", s.Name, err)
	}
	if s.Lag >= countAtMost {
		s.Lag = int64(settled - s.Position)
	}
	if s.Lag == 0 {
		return nil
	}
	for chunk, err := range r.store.Chunks(ctx, s.Position, r.find(s.Name).spec.filter()) {
		if archived := (*eventstore.ArchivedError)(nil); errors.As(err, &archived) { // the others' status is wanted all the same
			s.Behind = max(0, time.Since(archived.Month))
			break
		}
		if err != nil {
			return err
		}
		if len(chunk.Events) > 0 {
			s.Behind = max(0, time.Since(chunk.Events[0].RecordedAt))
			break
		}
	}
	return nil
}

func (r *Runner) namesAndVersions() (names []string, versions []int32) {
	for _, p := range r.projections {
		names, versions = append(names, p.spec.Name), append(versions, int32(p.spec.Version))
	}
	return names, versions
}

// Parked is an event that could not be applied, or that waits behind one of its key.
type Parked struct {
	Shard    int
	Key      string
	Position eventstore.Position
	StreamID eventstore.StreamID
	Version  eventstore.Version
	Attempts int    // 0: it waits
	Error    string // of the last attempt
	ParkedAt time.Time
	RetryAt  *time.Time // nil: not by itself
	Skip     string     // why it is to be left out, where [Runner.Skip] was called
}

// Parked lists what is parked of a projection, in position order, up to a limit.
func (r *Runner) Parked(ctx context.Context, name string, limit int) ([]Parked, error) {
	p := r.find(name)
	if p == nil {
		return nil, unknown(name)
	}
	rows, err := r.pool.Query(ctx, r.sql["list_parked"], name, p.spec.Version, limit)
	if err != nil {
		return nil, fmt.Errorf("listing what is parked of %s: %w", name, explained(err))
	}
	parked, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Parked])
	if err != nil {
		return nil, fmt.Errorf("listing what is parked of %s: %w", name, explained(err))
	}
	return parked, nil
}
