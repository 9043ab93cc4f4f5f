package projection

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
)

var (
	// ErrUnknown is returned for a projection that the runner does not have.
	ErrUnknown = errors.New("no such projection")
	// ErrNotParked is returned for a key or an event that is not parked.
	ErrNotParked = errors.New("not parked")
	// ErrStopped is returned by WaitFor for a projection that is paused or stopped: it will not get there.
	ErrStopped = errors.New("the projection does not run")
	// ErrNotMigrated is returned where the tables of this package, or those of a projection, are not there.
	ErrNotMigrated = errors.New("the tables of projections are not there: call Runner.Migrate or Runner.Run first")
	// ErrShards is returned where a projection's number of shards was changed while they do not all stand at one position.
	ErrShards = errors.New("the number of shards cannot change now")
)

// StoppedError says why a projection does not run.
type StoppedError struct {
	Name    string
	Version int
	State   State
	Reason  string
}

func (e *StoppedError) Error() string {
	return fmt.Sprintf("projection %s, version %d, is %s: %s", e.Name, e.Version, e.State, e.Reason)
}

// Is reports ErrStopped.
func (e *StoppedError) Is(target error) bool { return target == ErrStopped }

// PanicError is a panic of a projection's code.
type PanicError struct {
	Value any
	Stack string
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// errLost says that the shard is not, or not any more, this worker's, or that it stands somewhere else.
var errLost = errors.New("the shard was taken over")

// poisonError is the events' own fault, as far as one can tell.
type poisonError struct{ err error }

func (e *poisonError) Error() string { return e.err.Error() }
func (e *poisonError) Unwrap() error { return e.err }

// Transient marks an error of [Projection].Apply or [Preparer].Prepare as one that will pass by itself, such as a service that
// does not answer: the same events are tried again, with growing pauses, and none is parked. Errors of the network and of a
// database that is restarting, overloaded or locked are taken for such anyway.
func Transient(err error) error { return &transientError{err} }

type transientError struct{ err error }

func (e *transientError) Error() string { return e.err.Error() }
func (e *transientError) Unwrap() error { return e.err }

// transient says whether an error will pass by itself.
func transient(err error) bool {
	var marked *transientError
	var network net.Error
	if errors.As(err, &marked) || errors.As(err, &network) {
		return true
	}
	const (
		statementTimeout = "57014" // fewer events may do
		readOnly         = "25006" // a standby that is being promoted
		idleTransaction  = "25P03"
	)
	code := pg.Code(err)
	switch code {
	case pg.SerializationFailure, pg.DeadlockDetected, pg.LockNotAvailable, readOnly, idleTransaction:
		return true
	case "":
		return errors.Is(err, pgx.ErrTxClosed)
	case statementTimeout:
		return false
	}
	return slices.Contains([]string{"08", "53", "57", "58"}, code[:2]) // connection, resources, operator, system
}

// explained names what is missing: a table, or a right.
func explained(err error) error {
	if pg.Code(err) == pg.UndefinedTable {
		return fmt.Errorf("%w: %w", ErrNotMigrated, err)
	}
	return allowed(err)
}

// allowed names a missing right.
func allowed(err error) error {
	if pg.Code(err) == pg.InsufficientPrivilege {
		return fmt.Errorf("%w: %w", eventstore.ErrNotAllowed, err)
	}
	return err
}

func unknown(name string) error { return fmt.Errorf("%s: %w", name, ErrUnknown) }

func position(p eventstore.Position) int64 { return int64(p) }
