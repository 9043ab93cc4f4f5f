package eventstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
)

// Finding is something that [Store.Doctor] found wrong with a log.
type Finding struct {
	Kind     FindingKind
	Severity slog.Level // LevelError: readers or writers fail or stand still. LevelWarn: they will. LevelInfo: good to know
	Text     string     // what it is, what it does to readers and writers, what to do: in words, for an operator
	Remedy   string     // the SQL that mends it, for its owner to run; empty where none does, or there is a choice to make

	// The facts of it. What does not apply is zero.

	PID         int           // of the session in question; 0 for a prepared transaction
	Prepared    string        // the gid of a prepared transaction
	Role        string        // whose session or rights it is
	Application string        // the session's application_name
	Client      string        // the session's address; empty on a Unix socket
	State       string        // as in pg_stat_activity: "active", "idle in transaction" …; empty if it cannot be seen
	Query       string        // the session's current or last one; empty if it cannot be seen
	Age         time.Duration // of the transaction, since it was prepared if it was; 0 if it cannot be seen
	Position    Position      // where readers are held, or of the event in question
	Held        int64         // positions above Position that are held back
	Month       time.Time     // its first instant, UTC
	Objects     []string      // tables or sequences, with their schema
	Clock       time.Duration // how far a clock is ahead, or fell
}

// FindingKind tells findings apart.
type FindingKind string

// What [Store.Doctor] looks for.
const (
	// FindingSlowAppender: a transaction has appended and does not end; readers of the log wait for it. The one that holds
	// most comes first.
	FindingSlowAppender FindingKind = "slow_appender"
	// FindingMonthMissing: the current month or the next has no partition.
	FindingMonthMissing FindingKind = "month_missing"
	// FindingMonthClosed: the current month takes no events.
	FindingMonthClosed FindingKind = "month_closed"
	// FindingMonthMismatch: the month registry and the partitions disagree, or a partition cannot be read.
	FindingMonthMismatch FindingKind = "month_mismatch"
	// FindingUnguarded: a table of events lacks a trigger that refuses changes, or a partition a unique constraint.
	FindingUnguarded FindingKind = "unguarded"
	// FindingTooManyRights: a role may write past the append functions.
	FindingTooManyRights FindingKind = "too_many_rights"
	// FindingClockJumped: events recorded ahead of the clock, a step back in time, months far ahead, or this program's clock.
	FindingClockJumped FindingKind = "clock_jumped"
	// FindingSequenceUnsafe: the sequence of positions was altered; see [ErrSequence].
	FindingSequenceUnsafe FindingKind = "sequence_unsafe"
	// FindingTestClock: the log takes times from its writers, as only a test's should.
	FindingTestClock FindingKind = "test_clock"
	// FindingNotDurable: a crash of the server can lose what was acknowledged.
	FindingNotDurable FindingKind = "not_durable"
	// FindingBadDateStyle: sessions write times in a style that the driver cannot read.
	FindingBadDateStyle FindingKind = "bad_date_style"
	// FindingSettledBehind: a standby is connected, and the settled position that it reads up to is old.
	FindingSettledBehind FindingKind = "settled_behind"
	// FindingWrongSchema: there is no log, or its schema is not this program's; nothing else was looked at.
	FindingWrongSchema FindingKind = "wrong_schema"
	// FindingUnseen: something could not be looked at.
	FindingUnseen FindingKind = "unseen"
)

// Doctor examines the log and names in words what is wrong with it, the worst first; a healthy log has no findings. It
// is for an operator, a start-up check or a health page, not for every request: it reads system catalogs, pg_locks, and the
// newest 1,000 events, and takes some milliseconds. It changes nothing, works inside a transaction too, and waits at
// most 2 s for a lock.
//
// The rights of [Reader] are enough. Without those of pg_read_all_stats, the queries of other roles' sessions and the age
// of their transactions cannot be seen, and their findings say so. The error is PostgreSQL's own: the log could not be
// reached, or examined.
func (s *Store) Doctor(ctx context.Context) ([]Finding, error) {
	line, err := schemaLine()
	if err != nil {
		return nil, err
	}
	version, err := line.Current(ctx, s.db, s.config.Schema)
	if err != nil {
		return nil, fmt.Errorf("examining the log: %w", err)
	}
	if fault := compareSchema(s.config.Schema, version, line.Version()); fault != nil {
		return []Finding{{Kind: FindingWrongSchema, Severity: slog.LevelError, Text: fmt.Sprintf("%v. Nothing else was examined.", fault)}}, nil
	}
	e := &examination{Store: s}
	err = pg.InTx(ctx, s.db, func(tx pgx.Tx) error {
		if err := e.examine(ctx, tx); err != nil {
			return err
		}
		return errExamined
	})
	if !errors.Is(err, errExamined) {
		return nil, fmt.Errorf("examining the log: %w", err)
	}
	slices.SortStableFunc(e.findings, func(a, b Finding) int { return cmp.Compare(b.Severity, a.Severity) })
	return e.findings, nil
}

// errExamined rolls an examination back: the timeouts it set must not stay with a caller's transaction.
var errExamined = errors.New("examined")

// examination is one run of Doctor: what was read, and what is said about it.
type examination struct {
	*Store
	facts    doctorFacts
	fences   []doctorFence
	leaves   []doctorLeaf
	rights   []doctorRight
	asked    time.Time // this program's clock before and after the facts were read
	answered time.Time
	findings []Finding
}

func (e *examination) add(f Finding) { e.findings = append(e.findings, f) }

// doctorFacts, doctorFence, doctorLeaf, doctorRight and doctorEvents are rows of sql/doctor_*.sql, column by column.
type doctorFacts struct {
	Now                                   int64 // microseconds since 1970, as all times here
	Standby                               bool
	Role, Owner                           string
	Superuser, MayBeOwner, WritesAll      bool
	MakesMonths, Fsync, FullPageWrites    bool
	SynchronousCommit, DateStyle          string
	TestClock                             bool
	SequenceCache, Last, StoredSettlement int64
	HasStandby                            bool
}

type doctorFence struct {
	PID                                               int
	Prepared, Role, Application, Client, State, Query string
	Age, Position                                     int64 // Age is -1 if it cannot be seen
}

type doctorLeaf struct {
	Name             string
	Month            *int64 // seconds since 1970; nil without a row in the registry
	State            string
	Attached, Parent bool
	Readable         bool
	RefusesRows      bool
	RowTriggerOff    string // a disabled trigger that would do it
	RefusesTruncate  bool
	TruncateOff      string
	KeysMissing      []string
}

type doctorRight struct {
	Role, Kind, Owner   string // quoted; Kind is TABLE, SEQUENCE or DEFAULT, whose only object is a schema or ""
	Objects, Privileges []string
}

type doctorEvents struct {
	Last, Highest                                  int64
	Latest, LatestAt                               int64
	BackAfter, BackAt, BackFrom, BackTo, Unsettled int64
}

func (e *examination) examine(ctx context.Context, tx pgx.Tx) error {
	// Apart and first: even the parsing of what follows waits for locks.
	if _, err := tx.Exec(ctx, sqlDoctorBounds); err != nil {
		return err
	}
	if err := e.read(ctx, tx); err != nil {
		return err
	}
	e.appenders()
	e.months()
	e.guards()
	e.connectedRole()
	e.grantedRoles()
	e.settings()
	e.clockOfThisProgram()
	return e.events(ctx, tx)
}

// read asks for all that needs no lock on the events.
func (e *examination) read(ctx context.Context, tx pgx.Tx) error {
	sql := e.sql.schema.SQL
	e.asked = e.now()
	rows, err := tx.Query(ctx, sql(sqlDoctorFacts))
	if err != nil {
		return err
	}
	if e.facts, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[doctorFacts]); err != nil {
		return err
	}
	e.answered = e.now()
	var batch pgx.Batch
	batch.Queue(sql(sqlDoctorFences), e.facts.Last).Query(collectInto(&e.fences))
	batch.Queue(sql(sqlDoctorLeaves)).Query(collectInto(&e.leaves))
	batch.Queue(sql(sqlDoctorRights)).Query(collectInto(&e.rights))
	return tx.SendBatch(ctx, &batch).Close()
}

func collectInto[T any](into *[]T) func(pgx.Rows) error {
	return func(rows pgx.Rows) (err error) {
		*into, err = pgx.CollectRows(rows, pgx.RowToStructByPos[T])
		return err
	}
}

// events looks at the newest events, unless somebody has locked them away.
func (e *examination) events(ctx context.Context, tx pgx.Tx) error {
	settled := e.facts.Last
	for _, fence := range e.fences {
		settled = min(settled, fence.Position)
	}
	var events doctorEvents
	rows, err := tx.Query(ctx, e.sql.schema.SQL(sqlDoctorEvents), e.facts.StoredSettlement, settled)
	if err == nil {
		events, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[doctorEvents])
	}
	if pg.Code(err) == pg.LockNotAvailable {
		e.add(Finding{
			Kind: FindingUnseen, Severity: slog.LevelWarn, Objects: []string{string(e.sql.schema) + ".events"},
			Text: "The newest events could not be looked at: a session holds or awaits a lock on the events or one of their partitions that keeps readers out. " +
				"Readers wait for it too; pg_locks shows it (locktype relation, mode AccessExclusiveLock).",
		})
		return nil // the transaction is rolled back anyway
	}
	if err != nil {
		return err
	}
	e.sequence(events)
	e.clockOfTheDatabase(events)
	e.storedSettlement(events, settled)
	return nil
}
