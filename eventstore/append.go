package eventstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sight-platform/hindsight/internal/pg"
)

// Append writes events to one stream: all of them in one commit, or none. Each event is a payload that the codec knows (a
// value or a pointer), a [Raw], or an [Event] that holds one of them.
//
// Concurrent calls in one process share round trips and commits, each with a verdict of its own (not within [Store.WithTx]).
//
// An append that is repeated with the same event ids, in the same order, is not written again: it returns the first receipt,
// with Repeated set, for as long as the months of the stream are online. What it expects must be what it expected then; with
// [Any] and [StreamExists] that is all. Set [Event].ID to repeat an append across calls; ids of version 7 are cheapest.
//
// Errors match [ErrConflict], [ErrInvalid], [ErrUnknownType], [ErrDuplicateID], [ErrPartialRetry], [ErrClock],
// [ErrMonthClosed], [ErrMonthMissing], [ErrCipher], [ErrNotAllowed], [ErrSerialization] (in a caller's transaction), or
// [ErrOutcomeUnknown] where the connection or ctx ended before the database answered (a lost connection is first tried again, by the ids). In
// all but the last case nothing was written. After the last, [OutcomeUnknownError] has the ids to repeat the append with.
func (s *Store) Append(ctx context.Context, id StreamID, expected Expected, events ...any) (Receipt, error) {
	request, err := s.prepareAppend(ctx, id, expected, events)
	if err != nil {
		return Receipt{}, fmt.Errorf("append to %s: %w", id, err)
	}
	switch {
	case s.config.InTx.After != nil:
		receipts, err := s.appendWithHooks(ctx, []*appendRequest{request}, func(ctx context.Context, in *Store) ([]Receipt, error) {
			receipt, err := in.appendAlone(ctx, request, false)
			return []Receipt{receipt}, err
		})
		if err != nil {
			return Receipt{}, err
		}
		return receipts[0], nil
	case s.group != nil:
		return s.group.append(ctx, s, request)
	}
	return s.appendAlone(ctx, request, false)
}

// appendAlone appends in a statement of its own. lost says that it was sent before, and that the answer was lost.
func (s *Store) appendAlone(ctx context.Context, r *appendRequest, lost bool) (Receipt, error) {
	receipts, err := s.appendUntilAnswered(ctx, []*appendRequest{r}, lost, func(ctx context.Context) ([]appendAnswer, error) {
		return s.queryAnswers(ctx, s.sql.append, string(r.stream), int64(r.expected), r.project,
			r.events.ids, r.events.types, r.events.schemaVersions, r.events.occurred, r.events.data, r.events.metadata,
			r.since, s.inTx(), s.config.MaxClockSkew.Microseconds(), s.clockTime())
	})
	if err != nil {
		return Receipt{}, err
	}
	return receipts[0], nil
}

// appendAnswer is what the database says to an append.
type appendAnswer struct {
	Outcome    string
	Version    *int64
	RecordedAt *time.Time
	Positions  []int64
}

const (
	outcomeAppended = "appended"
	outcomeRepeated = "repeated"
)

// maxTries: a missing month is made and the append repeated; a third try is for a month end passing in between.
const maxTries = 3

// appendUntilAnswered sends an append to one or several streams until it is written or refused. There is an answer for each
// request, or up to the first that was refused.
func (s *Store) appendUntilAnswered(ctx context.Context, requests []*appendRequest, lost bool,
	send func(context.Context) ([]appendAnswer, error),
) ([]Receipt, error) {
	for range maxTries {
		answers, isLost, err := s.sendRepeatedly(ctx, requests, lost, send)
		lost = lost || isLost
		if err != nil {
			return nil, fmt.Errorf("append to %s: %w", requests[0].stream, err)
		}
		refused, r := answers[len(answers)-1], requests[len(answers)-1]
		at := s.now()
		if refused.RecordedAt != nil {
			at = refused.RecordedAt.UTC()
		}
		switch refused.Outcome {
		case outcomeAppended, outcomeRepeated:
			if refused.Outcome != answers[0].Outcome {
				return nil, fmt.Errorf("append to %s: %w", r.stream, ErrPartialRetry)
			}
			if !s.inTx() {
				s.news.poke()
			}
			return receiptsOf(requests, answers, lost), nil
		case "partial":
			return nil, fmt.Errorf("append to %s: %w", r.stream, ErrPartialRetry)
		case "conflict":
			conflict := &ConflictError{StreamID: r.stream, Expected: r.expected}
			if refused.Version != nil {
				conflict.Actual = Version(*refused.Version)
			}
			return nil, conflict
		case "clock":
			return nil, &ClockError{StreamID: r.stream, Head: at}
		case "month_closed":
			return nil, &MonthError{StreamID: r.stream, Month: monthOf(at), Kind: ErrMonthClosed}
		case "month_missing":
			if err := s.ensureMonth(ctx, monthOf(at)); pg.Code(err) == pg.SerializationFailure {
				return nil, fmt.Errorf("append to %s: %w: %w", r.stream, ErrSerialization, err)
			} else if err != nil {
				return nil, &MonthError{StreamID: r.stream, Month: monthOf(at), Kind: ErrMonthMissing, Err: err}
			}
		default:
			return nil, fmt.Errorf("append to %s: the database answered %q", r.stream, refused.Outcome)
		}
	}
	id := requests[0].stream
	if s.inTx() { // the month is there, but not in the snapshot of a stricter isolation
		return nil, fmt.Errorf("append to %s: the month was made after the transaction's snapshot: %w", id, ErrSerialization)
	}
	return nil, &MonthError{StreamID: id, Month: monthOf(s.now()), Kind: ErrMonthMissing}
}

// receiptsOf reads the answers to appends that are in the log. An append whose answer was lost was not repeated by its caller.
func receiptsOf(requests []*appendRequest, answers []appendAnswer, lost bool) []Receipt {
	receipts := make([]Receipt, len(requests))
	for i, r := range requests {
		receipts[i] = r.receipt(Version(*answers[i].Version), *answers[i].RecordedAt, answers[i].Positions)
		receipts[i].Repeated = answers[i].Outcome == outcomeRepeated && !lost
	}
	return receipts
}

func (r *appendRequest) receipt(version Version, recordedAt time.Time, positions []int64) Receipt {
	receipt := Receipt{
		StreamID: r.stream, Version: version, RecordedAt: recordedAt.UTC(), EventIDs: r.eventIDs,
		Positions: make([]Position, len(positions)),
	}
	for i, p := range positions {
		receipt.Positions[i] = Position(p)
	}
	return receipt
}

// maxRaces bounds the repetitions of an append that loses races. Each waits for the winner's lock, so it needs no pause.
const maxRaces = 50

// sendRepeatedly repeats an append of its own that lost a race (a deadlock, or a session whose default isolation is
// stricter), and once one whose answer was lost. A caller's transaction is the caller's to repeat.
func (s *Store) sendRepeatedly(ctx context.Context, requests []*appendRequest, lost bool,
	send func(context.Context) ([]appendAnswer, error),
) (answers []appendAnswer, isLost bool, err error) {
	again := true
	for range maxRaces {
		answers, err = send(ctx)
		switch {
		case err == nil && answers[len(answers)-1].Outcome == "race": // nothing is written; a transaction can go on, too
			err = fmt.Errorf("%w: another append came between", ErrSerialization)
			continue
		case s.pool == nil || err == nil:
			return answers, lost, err
		case errors.Is(err, ErrSerialization):
			continue
		case errors.Is(err, ErrDuplicateID):
			return s.firstAnswers(ctx, requests, lost, err)
		case errors.Is(err, ErrOutcomeUnknown) && again && ctx.Err() == nil:
			lost, again = true, false
			continue
		}
		break
	}
	if lost || errors.Is(err, ErrOutcomeUnknown) { // whatever the last try says, an earlier one may be in the log
		err = outcomeUnknown(requests, err)
	}
	return nil, lost, err
}

// firstAnswers finds out whether ids that are in the log already are those of this append, made before.
func (s *Store) firstAnswers(ctx context.Context, requests []*appendRequest, lost bool, duplicate error) ([]appendAnswer, bool, error) {
	var answers []appendAnswer
	for _, r := range requests {
		found, err := s.queryAnswers(ctx, s.sql.firstAnswer, string(r.stream), r.events.ids)
		if err != nil {
			if lost || errors.Is(err, ErrOutcomeUnknown) {
				err = outcomeUnknown(requests, err)
			}
			return nil, lost, err
		}
		if found[0].Outcome == "" { // they belong to another stream
			return nil, lost, duplicate
		}
		if answers = append(answers, found[0]); found[0].Outcome != outcomeRepeated {
			break
		}
	}
	return answers, lost, nil
}

// queryAnswers runs one of the append functions.
func (s *Store) queryAnswers(ctx context.Context, sql string, args ...any) ([]appendAnswer, error) {
	db, release, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, s.classifyAppend(err)
	}
	answers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[appendAnswer])
	if err != nil {
		return nil, s.classifyAppend(err)
	}
	return answers, nil
}

// acquire takes a connection apart from its use, so that an error of waiting for one is known to have written nothing.
func (s *Store) acquire(ctx context.Context) (db pg.DB, release func(), err error) {
	if s.pool == nil {
		return s.db, func() {}, nil
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, nil, err
	}
	return conn, conn.Release, nil
}

func (s *Store) classifyAppend(err error) error {
	switch pg.Code(err) {
	case pg.SerializationFailure, pg.DeadlockDetected:
		return fmt.Errorf("%w: %w", ErrSerialization, err)
	case pg.CheckViolation:
		if pg.Constraint(err) == "" { // no partition: the month was made after this session last looked
			return fmt.Errorf("%w: %w", ErrSerialization, err)
		}
		if strings.HasSuffix(pg.Constraint(err), "_position_check") { // sealed since this transaction's snapshot; a new one sees it
			return fmt.Errorf("%w: %w", ErrSerialization, err)
		}
	case pg.UniqueViolation:
		if strings.HasSuffix(pg.Constraint(err), "_event_id_key") {
			return fmt.Errorf("%w: %w", ErrDuplicateID, err)
		}
	case pg.InsufficientPrivilege:
		return allowed(err)
	case pg.BelowFence:
		return fmt.Errorf("%w: %w", ErrSequence, err)
	}
	// Without PostgreSQL's answer, or with its good-bye, the statement may have committed, unless not a byte of it was sent.
	// Inside a transaction the caller's commit decides.
	if s.pool != nil && (pg.Code(err) == "" || pg.Fatal(err)) && !pgconn.SafeToRetry(err) {
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return err
}

// makerTimeout bounds the wait for a connection beside a caller's transaction: the pool may be used up by such ones.
const makerTimeout = time.Second

// ensureMonth makes a month's partition in a short transaction of its own. Where the store has only the caller's, or no
// connection can be had, it makes it there, under a savepoint.
func (s *Store) ensureMonth(ctx context.Context, month time.Time) error {
	if s.inTx() && s.makers != nil {
		beside, cancel := context.WithTimeout(ctx, makerTimeout)
		defer cancel()
		if s.makeMonth(beside, s.makers, month) == nil {
			return nil
		}
	}
	return s.makeMonth(ctx, s.db, month)
}

func (s *Store) makeMonth(ctx context.Context, db pg.DB, month time.Time) error {
	return pg.InTx(ctx, db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, s.sql.ensureMonth, month.Format(time.DateOnly)) // a text: a time would pass the session's zone
		return err
	})
}

func (s *Store) now() time.Time {
	if s.config.Clock != nil {
		return s.config.Clock()
	}
	return time.Now()
}

// clockTime is the time that a test's Clock gives the log; nil leaves it to the database.
func (s *Store) clockTime() *time.Time {
	if s.config.Clock == nil {
		return nil
	}
	t := cutTime(s.config.Clock())
	return &t
}
