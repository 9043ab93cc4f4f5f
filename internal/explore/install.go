package explore

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
)

// Place is where a function gets a gate.
type Place struct {
	Function string
	Before   string // the statement that the gate goes before; {{schema}} is filled in
	Around   string // or a bigint expression within a statement, that the gate comes after
	Gate     string
	Name     string // or an SQL expression for the gate's name
	Detail   string // an SQL expression for what the steps so far have led to; optional
}

// around is the function's text with the gate.
func (p Place) around(text string) string {
	name := p.Name
	if name == "" {
		name = "'" + p.Gate + "'"
	}
	switch {
	case p.Around != "":
		return fmt.Sprintf("{{schema}}.gate_with(%s, %s)", name, text)
	case p.Detail == "":
		return fmt.Sprintf("PERFORM {{schema}}.gate(%s);\n", name) + text
	default:
		return fmt.Sprintf("PERFORM {{schema}}.gate(%s, %s);\n", name, p.Detail) + text
	}
}

// Swap replaces a text of a function: a mutation.
type Swap struct{ Function, Old, New string }

// gateClass is the class of the gates' locks. No relation has such an oid, so no gate is taken for a lock of a log.
const gateClass = 1

// Sessions say who they are in this setting; without it a gate stands open. The second one lists gates to pass by.
const (
	actorSetting = "explore.actor"
	passSetting  = "explore.pass"
)

// Pass is what follows SET, or SET LOCAL, to let a session pass some gates as if they were not there.
func Pass(gates ...string) string {
	return passSetting + ` = '` + strings.Join(gates, ",") + `'`
}

// gateCode marks the notice of a gate.
const gateCode = "HSGAT"

// gateSQL makes the gates. Two sequences an actor, because nothing rolls them back (and unlogged, so that they give their
// transaction no xid): gate_N counts the gates it came to, open_N holds, doubled, how many of them it may go through, and in
// its last bit which of the actor's two locks it then waits for. They take turns: while it waits for the one, the director
// holds the other too, so that it cannot run through the gate after that. The notice is flushed before the wait.
const gateSQL = `
CREATE FUNCTION {{schema}}.gate(p_name text, p_detail text DEFAULT '') RETURNS void LANGUAGE plpgsql SET lock_timeout = 0 AS $$
DECLARE
    v_actor text := current_setting('explore.actor', true);
    v_turn  bigint;
    v_open  bigint;
    v_key   integer;
BEGIN
    IF coalesce(v_actor, '') = '' OR p_name = ANY (string_to_array(current_setting('explore.pass', true), ',')) THEN
        RETURN;
    END IF;
    v_turn := nextval('{{schema}}.gate_' || v_actor);
    v_open := pg_sequence_last_value('{{schema}}.open_' || v_actor);
    IF v_turn <= v_open / 2 THEN
        RETURN;
    END IF;
    v_key := v_actor::integer + v_open % 2;
    RAISE NOTICE USING MESSAGE = p_name, DETAIL = coalesce(p_detail, 'NULL'), HINT = v_turn, ERRCODE = 'HSGAT';
    PERFORM pg_advisory_lock_shared(1, v_key);
    PERFORM pg_advisory_unlock_shared(1, v_key);
END $$;
-- gate_with is a gate within a statement: it hands a value on.
CREATE FUNCTION {{schema}}.gate_with(p_name text, p_value bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {{schema}}.gate(p_name, p_value::text);
    RETURN p_value;
END $$`

// Install mutates functions of a schema and puts gates into them. A text that does not stand in its function exactly
// once, after the swaps, is an error: the places must follow the code.
func Install(ctx context.Context, db pg.DB, schema string, places []Place, swaps []Swap) error {
	quoted := pg.QuoteSchema(schema)
	if _, err := db.Exec(ctx, quoted.SQL(gateSQL)); err != nil {
		return fmt.Errorf("explore: making the gate: %w", err)
	}
	var order []string
	sources := map[string]string{}
	edit := func(function, old string, replacement func(string) string) error {
		if _, ok := sources[function]; !ok {
			source, err := sourceOf(ctx, db, schema, function)
			if err != nil {
				return err
			}
			sources[function] = source
			order = append(order, function)
		}
		old = quoted.SQL(old)
		if n := strings.Count(sources[function], old); n != 1 {
			return fmt.Errorf("explore: function %s holds %q %d times, want once: bring the places up to date", function, old, n)
		}
		sources[function] = strings.Replace(sources[function], old, replacement(old), 1)
		return nil
	}
	for _, swap := range swaps {
		if err := edit(swap.Function, swap.Old, func(string) string { return quoted.SQL(swap.New) }); err != nil {
			return err
		}
	}
	for _, place := range places {
		if err := edit(place.Function, place.Before+place.Around, func(old string) string { return quoted.SQL(place.around(old)) }); err != nil {
			return err
		}
	}
	for _, function := range order {
		if _, err := db.Exec(ctx, sources[function]); err != nil {
			return fmt.Errorf("explore: function %s with its gates: %w", function, err)
		}
	}
	return nil
}

// sourceOf is the statement that makes a function as it is installed.
func sourceOf(ctx context.Context, db pg.DB, schema, function string) (string, error) {
	rows, err := db.Query(ctx, `SELECT pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
		WHERE n.nspname = $1 AND p.proname = $2`, schema, function)
	if err != nil {
		return "", err
	}
	source, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
	if err != nil {
		return "", fmt.Errorf("explore: reading function %s: %w", function, err)
	}
	return source, nil
}
