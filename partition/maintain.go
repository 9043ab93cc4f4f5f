package partition

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sight-platform/hindsight/internal/pg"
)

// Done is what a run of [Months.Maintain] has done.
type Done struct {
	Passed  bool // another process was at work, and this one left it to it
	Moved   []Move
	Waiting []NotYetError // months that could not go on yet, and why
}

// Move is a month's way in a run.
type Move struct {
	Month    time.Time
	From, To State
}

// Run maintains the months until ctx ends, which is then its error, at once and then every Config.Interval. It makes this package's
// tables first, if they are not there. What goes wrong is logged, and tried again the next time. Any number of processes may run it: one
// works, the others pass.
func (m *Months) Run(ctx context.Context) error {
	for migrated := false; ; {
		var done Done
		var err error
		if !migrated {
			err = m.Migrate(ctx)
		}
		if migrated = err == nil; migrated {
			done, err = m.Maintain(ctx)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			m.config.Logger.ErrorContext(ctx, "looking after the months", "err", err)
		}
		for _, waiting := range done.Waiting {
			m.config.Logger.InfoContext(ctx, "a month waits", "why", waiting.Error())
		}
		if err := sleep(ctx, m.config.Interval); err != nil {
			return err
		}
	}
}

// Maintain makes the months ahead, seals those that are over, archives those that are older than Config.Online, and drops those
// whose quarantine is over; it ends what was interrupted, an Archive of a younger month too. A month that fails does not hold up the
// others; its error is among those returned.
func (m *Months) Maintain(ctx context.Context) (done Done, err error) {
	err = m.alone(ctx, func(k *keeper) error {
		failed := k.makeAhead(ctx)
		months, err := k.list(ctx)
		if err != nil {
			return errors.Join(failed, err)
		}
		past := 0
		for _, month := range months {
			if month.Over {
				past++
			}
		}
		for _, month := range months {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			past--
			moved, err := k.advance(ctx, month, m.goal(month, past))
			if err == nil && m.config.Archived > 0 && past >= m.config.Online+m.config.Archived && month.State == Dropped {
				err = k.expire(ctx, month)
			}
			if moved != month.State {
				done.Moved = append(done.Moved, Move{month.Month, month.State, moved})
			}
			var notYet *NotYetError
			if errors.As(err, &notYet) {
				done.Waiting = append(done.Waiting, *notYet)
			} else if errors.Is(err, ErrNotYet) {
				done.Waiting = append(done.Waiting, NotYetError{Month: month.Month, State: moved, Reason: err.Error()})
			} else if err != nil {
				failed = errors.Join(failed, err)
			}
		}
		return failed
	})
	if errors.Is(err, ErrBusy) {
		return Done{Passed: true}, nil
	}
	return done, err
}

// Archive takes a month that is over out of the database, as far as it goes now: sealed, exported, verified, detached, and, when its
// quarantine is over, dropped. It can be repeated, and goes on where it was, after a kill too. An error that matches [ErrNotYet]
// says what it waits for; others match [ErrBusy], [ErrNoMonth], [ErrNoArchive], [ErrDamaged], [ErrChanged], [ErrOtherLog] or
// [eventstore.ErrSchemaMissing], or are those of the database and the archive.
func (m *Months) Archive(ctx context.Context, month time.Time) (State, error) {
	var state State
	err := m.alone(ctx, func(k *keeper) error {
		found, err := k.find(ctx, month)
		if err != nil {
			return err
		}
		state, err = k.advance(ctx, found, Dropped)
		return err
	})
	return state, err
}

// stepFrom leads from a state to the next.
func (k *keeper) stepFrom(state State) func(context.Context, registered) error {
	switch state {
	case Open:
		return k.beginSeal
	case Sealing:
		return k.finishSeal
	case Sealed:
		return k.export
	case Exported, Restored:
		return k.verify
	case Verified:
		return k.leave
	case Detached:
		return k.leaveAndDrop
	}
	return nil
}

// leaveAndDrop ends a detachment, which a kill may have left half done, and drops what has stood its quarantine.
func (k *keeper) leaveAndDrop(ctx context.Context, m registered) error {
	if m.Stands {
		err := k.detach(ctx, m)
		if err == nil {
			m, err = k.find(ctx, m.Month) // its quarantine may only just have begun
		}
		if err != nil {
			return err
		}
	}
	return k.drop(ctx, m)
}

// goal is where a run takes a month that so many younger ones follow which are over.
func (m *Months) goal(month registered, younger int) State {
	switch {
	case !month.Over:
		return Open
	case month.State == Detached:
		return Dropped
	case m.config.Archive == nil || month.State == Restored:
		return Sealed
	case younger >= m.config.Online, month.State == Exported, month.State == Verified: // what Archive has begun is gone to its end
		return Dropped
	}
	return Sealed
}

// order of the states, for goals.
func (s State) order() int {
	for i, state := range []State{Open, Sealing, Sealed, Exported, Verified, Restored, Detached, Dropped} {
		if s == state {
			return i
		}
	}
	return -1
}

// advance takes a month towards a state, and returns the one it has reached.
func (k *keeper) advance(ctx context.Context, m registered, goal State) (State, error) {
	for m.State.order() < goal.order() {
		step := k.stepFrom(m.State)
		if step == nil {
			return m.State, fmt.Errorf("month %s is %s, which this program does not know", m, m.State)
		}
		if err := step(ctx, m); err != nil {
			return m.State, err
		}
		before := m.State
		var err error
		if m, err = k.find(ctx, m.Month); err != nil {
			return before, err
		}
		k.config.Logger.InfoContext(ctx, "a month goes on", "month", m.String(), "from", before, "to", m.State)
	}
	return m.State, nil
}

// expire deletes a month's archive: first the registry forgets it, so that nobody looks for what is half deleted.
func (k *keeper) expire(ctx context.Context, m registered) error {
	if k.config.Archive == nil {
		return nil
	}
	if err := k.owns(ctx, m); err != nil {
		return err
	}
	if m.Archive != "" {
		if err := k.gate(ctx, k.conn, m); err != nil { // who reads from the archive goes first
			return err
		}
		tag, err := k.conn.Exec(ctx, k.sql["expired"], m.date())
		if err != nil || tag.RowsAffected() == 0 {
			return errors.Join(err, errMoved)
		}
		k.config.Logger.WarnContext(ctx, "the archive of a month is deleted, as Config.Archived says", "month", m.String(), "rows", m.Rows)
	}
	keys, err := k.config.Archive.List(ctx, folder(m.Month))
	for _, key := range keys {
		err = errors.Join(err, k.config.Archive.Delete(ctx, key))
	}
	return err
}

// owns is ErrOtherLog where a month's folder holds what another log has written: it may be its only copy.
func (k *keeper) owns(ctx context.Context, m registered) error {
	log, err := k.log(ctx)
	if err != nil {
		return err
	}
	content, err := k.config.Archive.Get(ctx, manifestKey(m.Month))
	if err == nil {
		manifest, err := parseManifest(m.Month, manifestKey(m.Month), content)
		if err == nil && manifest.Log != log {
			err = otherLog(m.Month, manifestKey(m.Month))
		}
		return err
	}
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	return k.finishedParts(ctx, m, &Manifest{Log: log}) // of an export that has not ended
}

// makeAhead makes the current month and those that come, and stores the settled position for those who cannot see it.
func (k *keeper) makeAhead(ctx context.Context) error {
	for n := range k.config.Ahead + 1 {
		err := k.patiently(ctx, "making a month", func() error {
			_, err := k.conn.Exec(ctx, k.quoted.SQL(`SELECT {{schema}}.ensure_month((date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC') + $1::integer * interval '1 month')::date)`), n)
			return err
		})
		if err != nil && pg.Code(err) != pg.SerializationFailure { // made meanwhile
			return fmt.Errorf("making months ahead: %w", err)
		}
	}
	_, err := k.conn.Exec(ctx, k.quoted.SQL(`SELECT {{schema}}.settle()`))
	return err
}
