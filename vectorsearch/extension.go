package vectorsearch

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	pgxvector "github.com/pgvector/pgvector-go/pgx"

	"github.com/sight-platform/hindsight/internal/pg"
)

// ErrExtension is matched by an [ExtensionError].
var ErrExtension = errors.New("pgvector is missing or too old")

// ExtensionError says that the database has no pgvector that can be used.
type ExtensionError struct {
	// Installed is the version in the database, "" for none; Available that on the server, "" for none.
	Installed, Available string
	Reason               string
}

func (e *ExtensionError) Error() string { return "pgvector: " + e.Reason }

// Is reports ErrExtension.
func (e *ExtensionError) Is(target error) bool { return target == ErrExtension }

// version of pgvector.
type version [3]int

func (v version) atLeast(major, minor, patch int) bool {
	for i, n := range []int{major, minor, patch} {
		if v[i] != n {
			return v[i] > n
		}
	}
	return true
}

func parseVersion(text string) (v version) {
	for i, part := range strings.SplitN(text, ".", 3) {
		v[i], _ = strconv.Atoi(part)
	}
	return v
}

// vectorExtension is pgvector as it is in a database.
type vectorExtension struct {
	version version
	schema  string // quoted
	oid     uint32 // of the type halfvec
}

// extension looks which pgvector there is. Its schema need not be in the search_path.
func extension(ctx context.Context, db pg.DB) (vectorExtension, error) {
	var installed, available, schema *string
	var oid *uint32
	err := db.QueryRow(ctx, `
SELECT e.extversion, (SELECT default_version FROM pg_available_extensions WHERE name = 'vector'), quote_ident(n.nspname),
       (SELECT t.oid FROM pg_type t WHERE t.typname = 'halfvec' AND t.typnamespace = n.oid)
  FROM (SELECT) AS one LEFT JOIN (pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace) ON e.extname = 'vector'`).Scan(&installed, &available, &schema, &oid)
	if err != nil {
		return vectorExtension{}, fmt.Errorf("looking for pgvector: %w", err)
	}
	fail := &ExtensionError{}
	if installed != nil {
		fail.Installed = *installed
	}
	if available != nil {
		fail.Available = *available
	}
	switch v := parseVersion(fail.Installed); {
	case installed == nil && available == nil:
		fail.Reason = "the server does not have the extension: install it (Debian: postgresql-17-pgvector), at least 0.7"
	case installed == nil:
		fail.Reason = "the extension is not in this database: run Index.Migrate, or CREATE EXTENSION vector"
	case !v.atLeast(0, 7, 0) || oid == nil:
		fail.Reason = "version " + fail.Installed + " is installed, at least 0.7 is needed: ALTER EXTENSION vector UPDATE"
	default:
		return vectorExtension{v, *schema, *oid}, nil
	}
	return vectorExtension{}, fail
}

// register makes a connection speak the binary form of vectors, without which there is no COPY of them.
func (x *Index) register(conn *pgx.Conn) {
	x.mu.Lock()
	oid := x.vector.oid
	x.mu.Unlock()
	if _, known := conn.TypeMap().TypeForOID(oid); !known {
		conn.TypeMap().RegisterType(&pgtype.Type{Name: "halfvec", OID: oid, Codec: &pgxvector.HalfVectorCodec{}})
	}
}

// extensionSQL makes the extension where others find it.
const extensionSQL = `
DO $$
BEGIN
    EXECUTE format('CREATE EXTENSION IF NOT EXISTS vector SCHEMA %I', coalesce(current_schema(), (SELECT nspname FROM pg_namespace WHERE nspname = 'public'), {{schema_literal}}));
END $$`
