package analytics

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
	"github.com/sight-platform/hindsight/projection"
)

// ensureMonth makes the partitions of a month, where they are missing. It attaches finished tables, which no reader waits for.
func (s *Star) ensureMonth(ctx context.Context, batch *projection.Batch, month time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.facts {
		name := fmt.Sprintf("%s_%s", s.physical(f.Name), month.Format("2006_01"))
		if s.months[name] {
			continue
		}
		err := pg.InTx(ctx, s.store.Pool(), func(tx pgx.Tx) error { return s.attach(ctx, tx, batch.Table(f.Name), name, month) })
		if err != nil {
			return fmt.Errorf("making partition %s: %w", name, err)
		}
		s.months[name] = true
	}
	return nil
}

func (s *Star) attach(ctx context.Context, tx pgx.Tx, parent, name string, month time.Time) error {
	leaf := quote(s.store.Schema(), name)
	if _, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', '10s', true), pg_advisory_xact_lock($1::text::regclass::oid::bigint)`, parent); err != nil {
		return err
	}
	var there bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass($1::text))`, leaf).Scan(&there); err != nil || there {
		return err
	}
	bounds := fmt.Sprintf("FROM ('%s') TO ('%s')", month.Format(time.RFC3339), month.AddDate(0, 1, 0).Format(time.RFC3339))
	for _, sql := range []string{
		`DROP TABLE IF EXISTS ` + leaf,
		`CREATE TABLE ` + leaf + ` (LIKE ` + parent + ` INCLUDING ALL)`,
		// A query that names days alone then leaves the other months out: a month in UTC reaches a day over both ends elsewhere.
		fmt.Sprintf(`ALTER TABLE %s ADD CHECK (day BETWEEN '%s' AND '%s')`, leaf, month.AddDate(0, 0, -1).Format(time.DateOnly), month.AddDate(0, 1, 0).Format(time.DateOnly)),
		`ALTER TABLE ` + parent + ` ATTACH PARTITION ` + leaf + ` FOR VALUES ` + bounds,
	} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}
