package partition

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
)

// fenceWait is how long one run waits for appends in flight, for all of its months; the next run goes on.
const (
	fenceWait  = time.Minute
	fencePause = 20 * time.Millisecond
)

// beginSeal marks an open month: an append looks its month up after it has taken its fence, so one that comes later is
// refused.
func (k *keeper) beginSeal(ctx context.Context, m registered) error {
	if !m.Over {
		return &NotYetError{Month: m.Month, State: m.State, Reason: "it is not over"}
	}
	return k.mark(ctx, k.conn, m, Sealing)
}

// finishSeal waits for those who were in flight, proves the range of positions, freezes and digests.
func (k *keeper) finishSeal(ctx context.Context, m registered) error {
	if err := k.waitForAppends(ctx, m); err != nil {
		return err
	}
	first, last, err := k.proveRange(ctx, m)
	if err != nil {
		return err
	}
	if err := k.unhurried(ctx, "freezing "+m.leaf(), func() error {
		_, err := k.conn.Exec(ctx, k.quoted.SQL(`VACUUM (FREEZE, ANALYZE) {{schema}}.`+m.leaf()))
		return err
	}); err != nil {
		return err
	}
	rows, digest, err := k.digest(ctx, k.conn, m)
	if err != nil {
		return err
	}
	tag, err := k.conn.Exec(ctx, k.sql["sealed"], m.date(), first, last, rows, digest, k.quoted.SQL("{{schema}}."+m.leaf()))
	if err == nil && tag.RowsAffected() == 0 {
		err = errMoved
	}
	return err
}

// waitForAppends returns when every append that was in flight is gone: those of now look the month up and find it marked.
func (k *keeper) waitForAppends(ctx context.Context, m registered) error {
	var last int64
	if err := k.conn.QueryRow(ctx, k.quoted.SQL(`SELECT {{schema}}.last_position()`)).Scan(&last); err != nil {
		return err
	}
	for ; ; k.waited += fencePause {
		var waiting bool
		if err := k.conn.QueryRow(ctx, k.sql["fenced"], last).Scan(&waiting); err != nil || !waiting {
			return err
		}
		if k.waited >= fenceWait {
			return &NotYetError{Month: m.Month, State: m.State, Reason: "an append that began before is still open: Store.Doctor names it"}
		}
		if err := sleep(ctx, fencePause); err != nil {
			return err
		}
	}
}

// proveRange has the table refuse positions beyond those it holds: an append in a transaction whose snapshot is older than the
// mark does not see it, and would still come through. What came through before is in the range.
func (k *keeper) proveRange(ctx context.Context, m registered) (first, last *int64, err error) {
	for range 5 {
		if err := k.conn.QueryRow(ctx, k.on(m, "range")).Scan(&first, &last); err != nil {
			return nil, nil, err
		}
		within := "false"
		if first != nil {
			within = fmt.Sprintf("position >= %d AND position <= %d", *first, *last)
		}
		leaf := k.quoted.SQL("{{schema}}." + m.leaf())
		err := k.patiently(ctx, "closing "+m.leaf(), func() error {
			_, err := k.conn.Exec(ctx, fmt.Sprintf(`ALTER TABLE %[1]s DROP CONSTRAINT IF EXISTS %[2]s, ADD CONSTRAINT %[2]s CHECK (%[3]s) NOT VALID`,
				leaf, pgx.Identifier{m.leaf() + "_position_check"}.Sanitize(), within))
			return err
		})
		if err != nil {
			return nil, nil, err
		}
		err = k.unhurried(ctx, "proving the positions of "+m.leaf(), func() error {
			_, err := k.conn.Exec(ctx, fmt.Sprintf(`ALTER TABLE %s VALIDATE CONSTRAINT %s`, leaf, pgx.Identifier{m.leaf() + "_position_check"}.Sanitize()))
			return err
		})
		if pg.Code(err) != pg.CheckViolation { // else one came in between; it counts
			return first, last, err
		}
	}
	return nil, nil, &NotYetError{Month: m.Month, State: m.State, Reason: "events keep coming from transactions that began before it was closed"}
}

// digest of the events that a month's table holds, computed where they are.
func (k *keeper) digest(ctx context.Context, db pg.DB, m registered) (rows int64, digest []byte, err error) {
	k.config.Progress(Progress{Month: m.Month, Step: "digest", Of: m.Rows})
	if rows, digest, err = k.digestOf(ctx, db, k.quoted.SQL("{{schema}}."+m.leaf())); err == nil {
		k.config.Progress(Progress{Month: m.Month, Step: "digest", Rows: rows, Of: rows})
	}
	return rows, digest, err
}

func (k *keeper) digestOf(ctx context.Context, db pg.DB, table string) (rows int64, digest []byte, err error) {
	err = pg.InTx(ctx, db, func(tx pgx.Tx) error {
		// The planner takes sha256 for a cheap function, and workers for not worth their while.
		if _, err := tx.Exec(ctx, `SELECT set_config('parallel_setup_cost', '0', true), set_config('parallel_tuple_cost', '0', true), set_config('work_mem', '64MB', true)`); err != nil {
			return err
		}
		return tx.QueryRow(ctx, strings.ReplaceAll(k.sql["digest"], "{{table}}", table)).Scan(&rows, &digest)
	})
	if err != nil {
		return 0, nil, fmt.Errorf("digesting %s: %w", table, err)
	}
	return rows, digest, nil
}

// unchanged compares the table with what was sealed.
func (k *keeper) unchanged(ctx context.Context, db pg.DB, m registered) error {
	rows, digest, err := k.digest(ctx, db, m)
	if err != nil {
		return err
	}
	return m.compare("the table", rows, digest)
}

// compare is a ChangedError unless these are the events that were sealed.
func (m registered) compare(where string, rows int64, digest []byte) error {
	if rows != m.Rows || !bytes.Equal(digest, m.Digest) {
		return &ChangedError{Month: m.Month, Where: where, Rows: rows, Sealed: m.Rows}
	}
	return nil
}
