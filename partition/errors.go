package partition

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
)

// Errors to match with errors.Is.
var (
	// ErrBusy: another process looks after the log's months at the moment.
	ErrBusy = errors.New("another process looks after the months")
	// ErrNoMonth: the registry has no such month.
	ErrNoMonth = errors.New("the log has no such month")
	// ErrNotYet: the month cannot go on for now; most often a [NotYetError] says why.
	ErrNotYet = errors.New("not yet")
	// ErrNoArchive: Config.Archive is not set, or the month's archive was deleted.
	ErrNoArchive = errors.New("no archive")
	// ErrDamaged: an archive is not what was written; see [DamagedError].
	ErrDamaged = errors.New("the archive is damaged")
	// ErrChanged: a month's events are not those that were sealed; see [ChangedError].
	ErrChanged = errors.New("the month's events are not those that were sealed")
	// ErrOtherLog: the archive holds objects of another log. Give each log an archive of its own, and delete nothing.
	ErrOtherLog = errors.New("the archive is another log's")
	// ErrExists: a [Blob] holds something under the key already.
	ErrExists = errors.New("an object of this key is there already")
	// ErrNotFound: a [Blob] holds nothing under the key.
	ErrNotFound = errors.New("no object of this key")
)

// NotYetError says what a month waits for. It matches [ErrNotYet].
type NotYetError struct {
	Month  time.Time
	State  State // in which it stays
	Reason string
	// Behind are the checkpoints that are not past the month; it waits for them before it is detached, and before it is dropped.
	Behind []Checkpoint
}

// Checkpoint is how far a reader of the log has come.
type Checkpoint struct {
	Name      string
	Version   int
	Position  eventstore.Position // of its slowest shard, or of the first event that it has parked
	UpdatedAt time.Time
	Parked    bool // it is past the month, but for parked events
}

func (e *NotYetError) Error() string {
	text := fmt.Sprintf("month %s stays %s: %s", e.Month.Format("2006-01"), e.State, e.Reason)
	names := make([]string, len(e.Behind))
	for i, c := range e.Behind {
		what := "at"
		if c.Parked {
			what = "with parked events from"
		}
		names[i] = fmt.Sprintf("%s version %d %s position %d", c.Name, c.Version, what, c.Position)
	}
	return text + strings.Join(names, ", ")
}

// Is matches [ErrNotYet].
func (e *NotYetError) Is(target error) bool { return target == ErrNotYet }

// DamagedError names the object. It matches [ErrDamaged].
type DamagedError struct {
	Month   time.Time
	Key     string
	Problem string
	Err     error // may be nil
}

func (e *DamagedError) Error() string {
	text := fmt.Sprintf("month %s: %s %s", e.Month.Format("2006-01"), e.Key, e.Problem)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Is matches [ErrDamaged].
func (e *DamagedError) Is(target error) bool { return target == ErrDamaged }

func (e *DamagedError) Unwrap() error { return e.Err }

// ChangedError says how a month's events differ from those that were sealed. It matches [ErrChanged].
type ChangedError struct {
	Month        time.Time
	Where        string // "the table" or "the archive"
	Rows, Sealed int64
}

func (e *ChangedError) Error() string {
	return fmt.Sprintf("month %s: %s holds %d events that do not have the digest of the %d that were sealed; nothing is dropped",
		e.Month.Format("2006-01"), e.Where, e.Rows, e.Sealed)
}

// Is matches [ErrChanged].
func (e *ChangedError) Is(target error) bool { return target == ErrChanged }
