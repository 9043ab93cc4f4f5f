package eventstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
)

// Access is what a role may do with a log; see [Store.Grant].
type Access int

const (
	// Reader may read everything: streams, the log, [Store.Follow], [Store.Health], [Store.Doctor].
	Reader Access = iota
	// Appender may read, append, have months made, and [Store.Settle]. It writes through the log's functions alone: it
	// cannot INSERT, UPDATE, DELETE or TRUNCATE, nor move the sequence, so that nothing gets around the fence.
	Appender
)

func (a Access) String() string {
	switch a {
	case Reader:
		return "reader"
	case Appender:
		return "appender"
	}
	return fmt.Sprintf("Access(%d)", int(a))
}

// Grant gives an existing role the rights of Reader or Appender, and takes away what else it was granted on the log's
// tables, columns, sequence and functions; rights to other objects of the schema stay as they are. Months made later give
// the role its rights by themselves. It may be repeated, and should be after a [Store.Migrate] that had something to do.
//
// It needs a store that connects as the log's owner (the role that ran Migrate) or as a superuser; the programs then
// connect as the role. Appends and reads go on meanwhile. Errors match [ErrNotAllowed] for another role's store, and
// [ErrInvalid] for a name that breaks the limits of [Grants]; others are PostgreSQL's own. Nothing has then changed.
func (s *Store) Grant(ctx context.Context, role string, access Access) error {
	sql, err := Grants(s.config.Schema, role, access)
	if err != nil {
		return fmt.Errorf("granting %s the rights of %s: %w", role, access, err)
	}
	err = pg.InTx(ctx, s.db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql)
		return err
	})
	if err != nil {
		return fmt.Errorf("granting %s the rights of %s: %w", role, access, allowed(err))
	}
	return nil
}

// Grants returns what [Store.Grant] runs, as one SQL statement for an administrator or a migration tool: the rights of a
// role to the log in this schema ("" for [DefaultSchema]). The role's name is taken as it is, upper and lower case told
// apart; it has 1 to 63 bytes, none of them a quote, a backslash, a dollar sign or a control character, and is not
// "public" or "none". Errors match [ErrInvalid].
func Grants(schema, role string, access Access) (string, error) {
	if schema == "" {
		schema = DefaultSchema
	}
	if err := checkSchemaName(schema); err != nil {
		return "", err
	}
	if reason := checkRole(role); reason != "" {
		return "", &InvalidError{Index: -1, Field: "role", Reason: reason}
	}
	if access != Reader && access != Appender {
		return "", &InvalidError{Index: -1, Field: "access", Reason: fmt.Sprintf("is %d, want Reader or Appender", int(access))}
	}
	sql := pg.QuoteSchema(schema).SQL(sqlGrants)
	return strings.NewReplacer("{{role}}", pgx.Identifier{role}.Sanitize(), "{{access}}", access.String()).Replace(sql), nil
}

// checkRole says what is wrong with a role's name. It stands in identifiers, in string literals and between dollar quotes,
// and must need no escape in any of them. PostgreSQL would cut a longer name, and grant to whoever has the rest of it.
func checkRole(role string) string {
	switch {
	case role == "":
		return "is empty"
	case len(role) > 63:
		return fmt.Sprintf("has %d bytes, 63 are allowed", len(role))
	case role == "public" || role == "none": // PostgreSQL knows them even in quotes
		return fmt.Sprintf("%q is no role", role)
	case strings.ContainsAny(role, `"'\$`) || strings.ContainsFunc(role, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }):
		return fmt.Sprintf("%q has a quote, a backslash, a dollar sign or a control character", role)
	}
	return ""
}
