package vectorsearch

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sight-platform/hindsight/eventstore"
)

// Filter says which passages count. What is zero does not matter; of several values any one does, and all fields must hold.
type Filter struct {
	Projects    []string
	Personas    []string
	Users       []string
	Discussions []eventstore.StreamID
	Types       []string
	Languages   []string  // as in the passages
	From, To    time.Time // occurred_at, From included, To not
	// Metadata are values that the event's metadata must have, such as "correlation_id".
	Metadata map[string]string
}

// Set sets a field by name, for flags and query strings: project, persona, user, discussion, type and language add a value, from
// and to take a time of RFC 3339 or a day, metadata.NAME a value. The error matches [eventstore.ErrInvalid].
func (f *Filter) Set(name, value string) error {
	if reason := checkText(value); reason != "" {
		return invalid("filter "+name, reason)
	}
	switch name {
	case "project":
		f.Projects = append(f.Projects, value)
	case "persona":
		f.Personas = append(f.Personas, value)
	case "user":
		f.Users = append(f.Users, value)
	case "discussion":
		f.Discussions = append(f.Discussions, eventstore.StreamID(value))
	case "type":
		f.Types = append(f.Types, value)
	case "language":
		f.Languages = append(f.Languages, value)
	case "from", "to":
		at, err := parseTime(value)
		if err != nil {
			return invalid("filter "+name, fmt.Sprintf("%q is neither a time like 2026-11-22T09:00:00Z nor a day like 2026-11-22", value))
		}
		if name == "from" {
			f.From = at
		} else {
			f.To = at
		}
	default:
		key, ok := strings.CutPrefix(name, "metadata.")
		if !ok || key == "" {
			return invalid("filter "+name, "is unknown; there are project, persona, user, discussion, type, language, from, to and metadata.NAME")
		}
		if f.Metadata == nil {
			f.Metadata = map[string]string{}
		}
		f.Metadata[key] = value
	}
	return nil
}

func parseTime(text string) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at, nil
	}
	return time.Parse(time.DateOnly, text)
}

func invalid(field, reason string) error {
	return &eventstore.InvalidError{Index: -1, Field: field, Reason: reason}
}

// checkText refuses what PostgreSQL cannot take.
func checkText(text string) string {
	if !utf8.ValidString(text) {
		return "is not valid UTF-8"
	}
	if strings.ContainsRune(text, 0) {
		return "holds a NUL"
	}
	return ""
}

func (f Filter) validate() error {
	all := map[string][]string{"Projects": f.Projects, "Personas": f.Personas, "Users": f.Users, "Types": f.Types, "Languages": f.Languages}
	for _, id := range f.Discussions {
		all["Discussions"] = append(all["Discussions"], string(id))
	}
	for key, value := range f.Metadata {
		all["Metadata"] = append(all["Metadata"], key, value)
	}
	for field, values := range all {
		for _, value := range values {
			if reason := checkText(value); reason != "" {
				return invalid("Filter."+field, fmt.Sprintf("%q %s", value, reason))
			}
		}
	}
	if !f.From.IsZero() && !f.To.IsZero() && !f.From.Before(f.To) {
		return invalid("Filter.To", "is not after From")
	}
	return nil
}

// args collects a statement's arguments.
type args []any

func (a *args) add(value any) string {
	*a = append(*a, value)
	return fmt.Sprintf("$%d", len(*a))
}

// where is the filter as SQL over the columns that passages and vectors share; "" where there is none.
func (f Filter) where(a *args) string {
	var terms []string
	anyOf := func(column string, values []string) {
		switch len(values) {
		case 0:
		case 1: // the planner estimates it better
			terms = append(terms, column+" = "+a.add(values[0])+"::text")
		default:
			terms = append(terms, column+" = ANY ("+a.add(values)+"::text[])")
		}
	}
	anyOf("project_id", f.Projects)
	anyOf("persona_id", f.Personas)
	anyOf("user_id", f.Users)
	streams := make([]string, len(f.Discussions))
	for i, id := range f.Discussions {
		streams[i] = string(id)
	}
	anyOf("stream_id", streams)
	anyOf("event_type", f.Types)
	anyOf("language", f.Languages)
	if !f.From.IsZero() {
		terms = append(terms, "occurred_at >= "+a.add(f.From)+"::timestamptz")
	}
	if !f.To.IsZero() {
		terms = append(terms, "occurred_at < "+a.add(f.To)+"::timestamptz")
	}
	if len(f.Metadata) > 0 {
		object, err := json.Marshal(f.Metadata)
		if err != nil { // strings alone
			panic(err)
		}
		terms = append(terms, "metadata @> "+a.add(string(object))+"::jsonb")
	}
	return strings.Join(terms, " AND ")
}
