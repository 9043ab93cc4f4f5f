package partition

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
)

// Restore brings a month back into the database: from its table, while that is in quarantine, else from the archive. All or
// nothing: until it is done, readers go to the archive. Afterwards every read gives what it gave before; the month stays closed
// to appends, and is archived again by [Months.Archive] alone. Errors match [ErrBusy], [ErrNoMonth], [ErrNotYet] for a month that
// was not archived, [ErrNoArchive], [ErrDamaged] or [ErrChanged], or are those of the database and the archive.
func (m *Months) Restore(ctx context.Context, month time.Time) error {
	return m.alone(ctx, func(k *keeper) error {
		found, err := k.find(ctx, month)
		if err != nil {
			return err
		}
		if found.State == Detached { // a half-done detachment is ended first
			if err := k.detach(ctx, found); err != nil {
				return err
			}
			return k.reattach(ctx, found)
		}
		if found.State != Dropped {
			return &NotYetError{Month: found.Month, State: found.State, Reason: "it is in the database"}
		}
		if k.config.Archive == nil || found.Archive == "" {
			return fmt.Errorf("restoring month %s: %w", found, ErrNoArchive)
		}
		return k.restore(ctx, found)
	})
}

// reattach puts a table that is in quarantine back.
func (k *keeper) reattach(ctx context.Context, m registered) error {
	return pg.InTx(ctx, k.conn, func(tx pgx.Tx) error {
		if err := k.patiently(ctx, "locking "+m.leaf(), func() error {
			return pg.InTx(ctx, tx, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, k.quoted.SQL(`LOCK TABLE {{schema}}.`+m.leaf()+` IN SHARE ROW EXCLUSIVE MODE`))
				return err
			})
		}); err != nil {
			return err
		}
		if err := k.unchanged(ctx, tx, m); err != nil {
			return err
		}
		return k.attach(ctx, tx, m)
	})
}

// attach makes a month's table a partition again; its row trigger comes back from the parent. It tries until it has its locks: what
// the transaction did before is not done again.
func (k *keeper) attach(ctx context.Context, tx pgx.Tx, m registered) error {
	return k.patiently(ctx, "attaching "+m.leaf(), func() error {
		return pg.InTx(ctx, tx, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, k.quoted.SQL(`DROP TRIGGER IF EXISTS append_only_detached ON {{schema}}.`+m.leaf())); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, k.quoted.SQL(`SELECT {{schema}}.attach_leaf($1::text::date)`), m.date()); err != nil {
				return err
			}
			return k.mark(ctx, tx, m, Restored)
		})
	})
}

// restore loads the archive into a table of its own, compares, and makes it a partition, in one transaction.
func (k *keeper) restore(ctx context.Context, m registered) error {
	leaf := k.quoted.SQL("{{schema}}." + m.leaf())
	err := pg.InTx(ctx, k.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, k.quoted.SQL(`SELECT {{schema}}.make_leaf($1::text::date)`), m.date()); err != nil {
			return err
		}
		if err := k.load(ctx, tx, m, leaf, "restore"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, k.quoted.SQL(`SELECT {{schema}}.key_leaf($1::text::date)`), m.date()); err != nil {
			return err
		}
		if err := k.unchanged(ctx, tx, m); err != nil {
			return err
		}
		within := "false"
		if m.Rows > 0 {
			within = fmt.Sprintf("position >= %d AND position <= %d", m.First, m.Last)
		}
		if _, err := tx.Exec(ctx, fmt.Sprintf(`ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s)`, leaf, pgx.Identifier{m.leaf() + "_position_check"}.Sanitize(), within)); err != nil {
			return err
		}
		return k.attach(ctx, tx, m)
	})
	if err != nil {
		return fmt.Errorf("restoring month %s: %w", m, err)
	}
	if err := k.unhurried(ctx, "analysing "+m.leaf(), func() error {
		_, err := k.conn.Exec(ctx, `VACUUM (ANALYZE) `+leaf)
		return err
	}); err != nil {
		k.config.Logger.WarnContext(ctx, "the month is restored; analysing it failed", "month", m.String(), "err", err)
	}
	return nil
}

var errNoMore = errors.New("the database takes no more")

// load copies a month's archive into a table that the transaction has made. FREEZE shows the rows to older snapshots too: for a
// transaction that began before it was archived, the month has never been away.
func (k *keeper) load(ctx context.Context, tx pgx.Tx, m registered, table, step string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reader, writer := io.Pipe()
	read := make(chan error, 1)
	go func() {
		_, err := io.WriteString(writer, copyHeader)
		if err == nil {
			var piece []byte
			err = k.readBack(ctx, m, step, func(events []eventstore.Recorded) error {
				piece = piece[:0]
				for i := range events {
					piece = appendCopy(piece, &events[i])
				}
				_, err := writer.Write(piece)
				return err
			})
		}
		if err == nil {
			_, err = io.WriteString(writer, copyTrailer)
		}
		_ = writer.CloseWithError(err)
		read <- err
	}()
	_, err := tx.Conn().PgConn().CopyFrom(ctx, reader, `COPY `+table+` FROM STDIN (FORMAT binary, FREEZE)`)
	_ = reader.CloseWithError(errNoMore) // these two end the goroutine, if it writes or reads still
	cancel()
	switch readErr := <-read; {
	case readErr == nil, errors.Is(readErr, errNoMore), err != nil && errors.Is(readErr, context.Canceled):
		return err
	default:
		return readErr // which the database's error follows from
	}
}

// DrillReport is what a drill has found.
type DrillReport struct {
	Month       time.Time
	Rows, Bytes int64 // restored; bytes of the table
	Took        time.Duration
}

// RestoreDrill restores a month into a table that is dropped again, and compares it with what was sealed: the proof that the archive
// serves. It needs a month with an archive, dropped or not; errors are those of [Months.Restore].
func (m *Months) RestoreDrill(ctx context.Context, month time.Time) (DrillReport, error) {
	report := DrillReport{Month: firstOf(month)}
	if m.config.Archive == nil {
		return report, fmt.Errorf("drilling: %w", ErrNoArchive)
	}
	began := time.Now()
	err := m.alone(ctx, func(k *keeper) error {
		found, err := k.find(ctx, month)
		if err != nil {
			return err
		}
		if found.State == Dropped && found.Archive == "" {
			return fmt.Errorf("drilling month %s: %w", found, ErrNoArchive)
		}
		if found.Archive == "" {
			return &NotYetError{Month: found.Month, State: found.State, Reason: "it has no archive"}
		}
		tx, err := k.conn.Begin(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
		if _, err := tx.Exec(ctx, k.quoted.SQL(`CREATE TEMPORARY TABLE drill (LIKE {{schema}}.events) ON COMMIT DROP`)); err != nil {
			return err
		}
		if err := k.load(ctx, tx, found, "pg_temp.drill", "drill"); err != nil {
			return err
		}
		rows, digest, err := k.digestOf(ctx, tx, "pg_temp.drill")
		if err != nil {
			return err
		}
		if err := found.compare("the archive", rows, digest); err != nil {
			return err
		}
		report.Rows = found.Rows
		return tx.QueryRow(ctx, `SELECT pg_total_relation_size('pg_temp.drill')`).Scan(&report.Bytes)
	})
	report.Took = time.Since(began)
	return report, err
}
