package analytics

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
	"github.com/sight-platform/hindsight/projection"
)

// monthSQL creates the function that makes the partition of a fact for the month of an instant. It has its owner's rights, as a
// worker may have none to make tables. It attaches finished tables, which no reader waits for, and drops nothing: what was
// detached may be the only copy.
const monthSQL = `
DROP FUNCTION IF EXISTS {{month}};
CREATE FUNCTION {{month}}(p_fact text, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s' SET timezone = 'UTC' AS $month$
DECLARE
    v_from   timestamptz := date_trunc('month', p_at);
    v_to     timestamptz := date_trunc('month', p_at) + interval '1 month';
    v_parent text := format('%I.%I', {{schema}}, p_fact || '_v{{version}}');
    v_leaf   text := format('%I.%I', {{schema}}, p_fact || '_v{{version}}_' || to_char(date_trunc('month', p_at), 'YYYY_MM'));
BEGIN
    IF p_fact IS NULL OR p_fact <> ALL (ARRAY[{{facts}}]) THEN
        RAISE EXCEPTION 'the star has no fact %', p_fact USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(v_parent::regclass::oid::bigint); -- who waited sees the month in the next statement's snapshot
    IF EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(v_leaf) AND inhparent = v_parent::regclass) THEN
        RETURN false;
    END IF;
    IF to_regclass(v_leaf) IS NOT NULL THEN
        RAISE EXCEPTION '% is there, but is no partition of %: attach it again, or rename it', v_leaf, v_parent
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL)', v_leaf, v_parent);
    -- A query that names days alone then leaves the other months out: a month in UTC reaches a day over both ends elsewhere.
    EXECUTE format('ALTER TABLE %s ADD CHECK (day BETWEEN %L AND %L)', v_leaf, v_from::date - 1, v_to::date);
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', v_parent, v_leaf, v_from, v_to);
    RETURN true;
END $month$;
REVOKE EXECUTE ON FUNCTION {{month}} FROM PUBLIC; -- it writes with its owner's rights: a GRANT says who may
`

// partition names a partition of a fact by the first instant of its month.
type partition struct {
	fact  string
	month time.Time
}

// monthFunction is the quoted name of the function of monthSQL.
func (s *Star) monthFunction() string { return s.table("analytics_month") }

func (s *Star) monthSQL() string {
	facts := make([]string, len(s.facts))
	for i, f := range s.facts {
		facts[i] = literal(f.Name)
	}
	return withTable(monthSQL, "month", s.monthFunction(), "schema", literal(s.store.Schema()), "version", strconv.Itoa(s.config.Version), "facts", strings.Join(facts, ", "))
}

// ensureMonths makes the partitions that events of a batch may have rows in, where they are missing.
func (s *Star) ensureMonths(ctx context.Context, events []eventstore.Recorded) error {
	for _, e := range events {
		for _, f := range s.facts {
			if !slices.Contains(f.Types, e.Type) {
				continue
			}
			if err := s.ensureMonth(ctx, partition{f.Name, monthOf(e.OccurredAt)}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Star) ensureMonth(ctx context.Context, p partition) error {
	s.mu.Lock()
	there := s.months[p]
	s.mu.Unlock()
	if there {
		return nil
	}
	err := pg.InTx(ctx, s.store.Pool(), func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT `+s.monthFunction()+`($1::text, $2::timestamptz)`, p.fact, p.month)
		return err
	})
	if err != nil {
		return operators(fmt.Errorf("making the partition of %s for %s: %w", p.fact, p.month.Format("2006-01"), err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.months[p] = true
	return nil
}

// operators marks what an operator must mend, such as a right that is missing ([Star.Grant] gives it) or a table that stands in
// the way: no event is to blame, and all would be parked.
func operators(err error) error {
	const notInState = "55000"
	if code := pg.Code(err); code == notInState || strings.HasPrefix(code, "42") {
		return projection.Transient(err)
	}
	return err
}

func monthOf(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}
