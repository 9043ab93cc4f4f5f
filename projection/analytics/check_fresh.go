package analytics

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// tableRefreshed is where a refresh notes that it ran: no mark tells of a day that has begun.
const tableRefreshed = "analytics_refreshed"

const refreshedSQL = `CREATE TABLE {{table}} (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    at    timestamptz NOT NULL,
    today date NOT NULL
);
COMMENT ON TABLE {{table}} IS 'One row: the last refresh of the aggregates; none before the first.';
COMMENT ON COLUMN {{table}}.one IS 'Key.';
COMMENT ON COLUMN {{table}}.at IS 'When it ran.';
COMMENT ON COLUMN {{table}}.today IS 'The day it was, in the star''s time zone.';`

// noteRefresh commits with what the refresh computed.
func (s *Star) noteRefresh(ctx context.Context, tx pgx.Tx, today time.Time) error {
	_, err := tx.Exec(ctx, s.fill(`INSERT INTO {{`+tableRefreshed+`}} (at, today) VALUES (clock_timestamp(), $1::date)
    ON CONFLICT (one) DO UPDATE SET at = excluded.at, today = excluded.today`), today)
	return err
}

// lastRefresh is the day of the last refresh, as of which aggregates are judged.
func (s *Star) lastRefresh(ctx context.Context, tx pgx.Tx) (today time.Time, err error) {
	err = tx.QueryRow(ctx, s.fill(`SELECT today FROM {{`+tableRefreshed+`}}`)).Scan(&today)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("%w: the aggregates were never refreshed", ErrSkip)
	}
	return today, err
}

// freshness counts the minutes that the oldest mark waits, or that a day has begun without a refresh: whichever are more.
func (s *Star) freshness(ctx context.Context, tx pgx.Tx) (found Findings, err error) {
	sql, err := sqlOf("check_fresh")
	if err != nil {
		return found, err
	}
	var marked, refreshed *time.Time
	if err := tx.QueryRow(ctx, s.fill(sql), s.config.TimeZone).Scan(&marked, &refreshed, &found.Failing); err != nil {
		return found, err
	}
	if marked == nil && refreshed == nil {
		return found, fmt.Errorf("%w: nothing has changed, and nothing was ever refreshed", ErrSkip)
	}
	found.Note = "no refresh ran yet"
	if refreshed != nil {
		found.Note = "the last refresh ran at " + refreshed.UTC().Format(time.RFC3339)
	}
	if marked != nil {
		found.Note += ", the oldest mark was left at " + marked.UTC().Format(time.RFC3339)
	}
	return found, nil
}
