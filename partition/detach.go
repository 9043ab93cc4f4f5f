package partition

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
)

// gate refuses while a reader that keeps a checkpoint is not past the month, or has put events of it aside.
func (k *keeper) gate(ctx context.Context, db pg.DB, m registered) error {
	behind, err := k.behind(ctx, db, m.Last)
	if err == nil && len(behind) > 0 {
		err = &NotYetError{Month: m.Month, State: m.State, Reason: fmt.Sprintf("it ends at position %d, and not past it are ", m.Last), Behind: behind}
	}
	return err
}

// behind are those who are not past a position, and were not released.
func (m *Months) behind(ctx context.Context, db pg.DB, last eventstore.Position) (all []Checkpoint, err error) {
	var projections bool
	if err := db.QueryRow(ctx, m.quoted.SQL(`SELECT to_regclass('{{schema}}.projection_parked') IS NOT NULL`)).Scan(&projections); err != nil {
		return nil, err
	}
	queries := []string{"waiting"}
	if projections {
		queries = append(queries, "parked")
	}
	for _, name := range queries {
		rows, err := db.Query(ctx, m.sql[name], int64(last))
		if err != nil {
			return nil, err
		}
		found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Checkpoint])
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// leave sends readers elsewhere, before the partition goes: one month at a time, as PostgreSQL detaches one at a time.
func (k *keeper) leave(ctx context.Context, m registered) error {
	months, err := k.list(ctx)
	if err != nil {
		return err
	}
	for _, other := range months {
		if other.Leaving || other.State == Detached && other.Attached {
			return &NotYetError{Month: m.Month, State: m.State, Reason: "month " + other.String() + " is still being detached"}
		}
	}
	if err := k.gate(ctx, k.conn, m); err != nil { // before the digest, which takes a while
		return err
	}
	if err := k.unchanged(ctx, k.conn, m); err != nil {
		return err
	}
	return pg.InTx(ctx, k.conn, func(tx pgx.Tx) error {
		if err := k.gate(ctx, tx, m); err != nil {
			return err
		}
		return k.mark(ctx, tx, m, Detached)
	})
}

// detach takes a month's table out of the partitioned one. CONCURRENTLY makes it in two transactions, with a wait between them
// for those who still read it through the parent; an interruption leaves it half done, and FINALIZE ends that.
func (k *keeper) detach(ctx context.Context, m registered) error {
	if !m.Attached {
		return nil
	}
	if err := k.patiently(ctx, "guarding "+m.leaf(), func() error {
		_, err := k.conn.Exec(ctx, k.on(m, "guard"))
		return err
	}); err != nil {
		return err
	}
	leaf := k.quoted.SQL("{{schema}}." + m.leaf())
	for try := 1; m.Attached; try++ {
		how := "CONCURRENTLY"
		if m.Leaving {
			how = "FINALIZE"
		}
		_, err := k.conn.Exec(ctx, k.quoted.SQL(`ALTER TABLE {{schema}}.events DETACH PARTITION `)+leaf+" "+how)
		if err != nil && pg.Code(err) != pg.LockNotAvailable && pg.Code(err) != pg.DeadlockDetected {
			return fmt.Errorf("detaching %s: %w", m.leaf(), err)
		}
		if m, err = k.find(ctx, m.Month); err != nil {
			return err
		}
		if m.Attached && try == lockTries {
			return &NotYetError{Month: m.Month, State: m.State, Reason: "a transaction stays open that uses its table, or that began before and could"}
		}
		if m.Attached {
			if err := sleep(ctx, 10*lockTimeout); err != nil {
				return err
			}
		}
	}
	_, err := k.conn.Exec(ctx, k.sql["left"], m.date()) // the quarantine begins
	return err
}

// drop removes a detached month's table, when what is in it is what was archived, what is archived can be read, and all are past it.
func (k *keeper) drop(ctx context.Context, m registered) error {
	if wait := k.config.Quarantine - m.Since; wait > 0 {
		return &NotYetError{Month: m.Month, State: m.State, Reason: fmt.Sprintf("its quarantine goes on for %s", wait.Round(time.Second))}
	}
	if k.config.Archive == nil {
		return fmt.Errorf("dropping month %s: %w", m, ErrNoArchive)
	}
	if err := k.gate(ctx, k.conn, m); err != nil {
		return err
	}
	if err := k.readBack(ctx, m, "verify", func([]eventstore.Recorded) error { return nil }); err != nil { // objects may have gone since it was verified
		return err
	}
	leaf := k.quoted.SQL("{{schema}}." + m.leaf())
	return k.patiently(ctx, "dropping "+m.leaf(), func() error {
		return pg.InTx(ctx, k.conn, func(tx pgx.Tx) error {
			if m.Stands { // nobody reads it any more, but by a list of months that is as old as the quarantine
				if _, err := tx.Exec(ctx, `LOCK TABLE `+leaf+` IN ACCESS EXCLUSIVE MODE`); err != nil {
					return err
				}
				if err := k.unchanged(ctx, tx, m); err != nil {
					return err
				}
			}
			if err := k.gate(ctx, tx, m); err != nil {
				return err
			}
			if err := k.mark(ctx, tx, m, Dropped); err != nil || !m.Stands {
				return err
			}
			_, err := tx.Exec(ctx, `DROP TABLE `+leaf)
			return err
		})
	})
}

// Release lets months go without waiting for a checkpoint that nobody will move on any more, for a reason that stays on record. When
// the checkpoint moves all the same, months wait for it again.
// A projection that is run again under that name and version reads what has gone from the archive, through Config.Cold.
func (m *Months) Release(ctx context.Context, name string, version int, reason string) error {
	if reason == "" {
		return errors.New("releasing a checkpoint needs a reason")
	}
	tag, err := m.pool.Exec(ctx, m.sql["release"], name, version, reason)
	if err == nil && tag.RowsAffected() == 0 {
		err = fmt.Errorf("there is no checkpoint of %s version %d", name, version)
	}
	return err
}
