// Package pg holds what every package says to PostgreSQL in the same way: the interface that a pool and a
// transaction share, SQLSTATEs, and SQL files with their schema filled in.
package pg

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// DB is what *pgxpool.Pool, *pgx.Conn and pgx.Tx have in common. Begin on a transaction makes a savepoint.
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// SQLSTATEs that the library acts on. The HS class is raised by its own functions.
const (
	UniqueViolation      = "23505"
	SerializationFailure = "40001"
	DeadlockDetected     = "40P01"
	CheckViolation       = "23514"
	UndefinedTable       = "42P01"
	UndefinedFunction    = "42883"
	LockNotAvailable     = "55P03"

	InsufficientPrivilege = "42501"
	ActiveTransaction     = "25001"

	BelowFence = "HS001" // a position at or below its transaction's fence
)

// Code is the SQLSTATE of err, "" if PostgreSQL did not report one.
func Code(err error) string {
	if e := asError(err); e != nil {
		return e.Code
	}
	return ""
}

// Constraint is the name of the constraint that err reports, "" if there is none.
func Constraint(err error) string {
	if e := asError(err); e != nil {
		return e.ConstraintName
	}
	return ""
}

// Fatal says whether the server, or a pooler in front of it, ended the session with err.
func Fatal(err error) bool {
	e := asError(err)
	if e == nil {
		return false
	}
	severity := e.SeverityUnlocalized
	if severity == "" { // PgBouncer sends only the other field
		severity = e.Severity
	}
	return severity == "FATAL" || severity == "PANIC"
}

func asError(err error) *pgconn.PgError {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// Schema is a schema's name, quoted for SQL.
type Schema string

// QuoteSchema quotes a schema's name.
func QuoteSchema(name string) Schema { return Schema(pgx.Identifier{name}.Sanitize()) }

// SQL fills the schema into a statement.
func (s Schema) SQL(statement string) string {
	return strings.ReplaceAll(statement, "{{schema}}", string(s))
}

// rollbackTimeout bounds a rollback whose caller's context has ended.
const rollbackTimeout = 5 * time.Second

// InTx runs f in a READ COMMITTED transaction, whatever the session's default, or, if db is a transaction, under a
// savepoint of it. The rollback survives a cancelled context.
func InTx(ctx context.Context, db DB, f func(pgx.Tx) error) error {
	begin := db.Begin
	if session, ok := db.(interface {
		BeginTx(context.Context, pgx.TxOptions) (pgx.Tx, error)
	}); ok {
		begin = func(ctx context.Context) (pgx.Tx, error) {
			return session.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
		}
	}
	tx, err := begin(ctx)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		return errors.Join(err, ignoreClosed(tx.Rollback(ctx)))
	}
	return tx.Commit(ctx)
}

func ignoreClosed(err error) error {
	if errors.Is(err, pgx.ErrTxClosed) {
		return nil
	}
	return err
}
