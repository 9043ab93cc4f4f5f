package analytics

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
	"github.com/sight-platform/hindsight/projection"
)

// declaration is what a version of the star was made with. It is kept as the comment of the function that makes months, as
// [projection.Runner.Reset] empties the tables.
type declaration struct {
	Made map[string]string `json:"made"`
	// Added are columns that AddColumn added: the code in use does not declare them yet.
	Added map[string]string `json:"added,omitempty"`
}

// declarations are what this star is declared with, as far as the tables depend on it.
func (s *Star) declarations() map[string]string {
	made := map[string]string{"TimeZone": s.config.TimeZone, "Health": fmt.Sprintf("%+v", s.config.Health.withDefaults()), "Quality": fmt.Sprintf("%+v", s.config.Quality.withDefaults())}
	add := func(table string, columns []Column) {
		for _, c := range columns {
			made[table+"."+c.Name] = strings.TrimSpace(c.Type + " " + string(c.Of))
		}
	}
	for _, f := range s.facts {
		types := slices.Sorted(slices.Values(f.Types))
		made[f.Name] = fmt.Sprintf("of %s, Lines %t", strings.Join(types, " "), f.Lines)
		add(f.Name, f.Columns)
	}
	for _, d := range []Dimension{Projects, Users, Personas} {
		add(string(d), s.members(d))
	}
	for _, a := range s.aggregates {
		add(a.Name, a.Columns)
	}
	return made
}

// declarationSQL notes the declaration of a star that is being made.
func (s *Star) declarationSQL() string {
	text, _ := json.Marshal(declaration{Made: s.declarations()}) // maps of strings
	return `COMMENT ON FUNCTION ` + s.monthFunction() + ` IS ` + literal(string(text)) + `;`
}

// differences say what another configuration would need another Version for.
func (d declaration) differences(now map[string]string) []string {
	all := maps.Clone(d.Made)
	maps.Copy(all, now)
	var found []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		made, ok := d.Made[name]
		if !ok {
			made, ok = d.Added[name]
		}
		switch is, declared := now[name]; {
		case !ok:
			found = append(found, fmt.Sprintf("%s is new (%s)", name, is))
		case !declared:
			found = append(found, name+" is gone")
		case is != made:
			found = append(found, fmt.Sprintf("%s was %q and is %q", name, made, is))
		}
	}
	return found
}

func (s *Star) readDeclaration(ctx context.Context, db pg.DB) (declaration, error) {
	var made declaration
	var text *string
	err := db.QueryRow(ctx, `SELECT obj_description(to_regproc($1::text), 'pg_proc')`, s.monthFunction()).Scan(&text)
	if err == nil && text == nil {
		err = projection.ErrNotMigrated
	}
	if err == nil {
		err = json.Unmarshal([]byte(*text), &made)
	}
	return made, err
}

// agree sees, once, that the tables are those that this star declares: rows that mean something else would look like the others.
func (s *Star) agree(ctx context.Context) error {
	if s.agreed.Load() {
		return nil
	}
	made, err := s.readDeclaration(ctx, s.store.Pool())
	if err != nil {
		return projection.Transient(fmt.Errorf("reading what the star was made with: %w", err))
	}
	if differ := made.differences(s.declarations()); len(differ) > 0 {
		return projection.Transient(&eventstore.InvalidError{Index: -1, Field: "Config", Reason: fmt.Sprintf(
			"is not what version %d was made with, and needs another Version: %s", s.config.Version, strings.Join(differ, "; "))})
	}
	s.agreed.Store(true)
	return nil
}

// declareColumn notes a column that was added to a table.
func (s *Star) declareColumn(ctx context.Context, table string, column Column) error {
	return pg.InTx(ctx, s.store.Pool(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(to_regproc($1::text)::oid::bigint)`, s.monthFunction()); err != nil {
			return err
		}
		made, err := s.readDeclaration(ctx, tx)
		if err != nil {
			return err
		}
		if made.Added == nil {
			made.Added = map[string]string{}
		}
		made.Added[table+"."+column.Name] = column.Type
		text, err := json.Marshal(made)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `COMMENT ON FUNCTION `+s.monthFunction()+` IS `+literal(string(text)))
		return err
	})
}
