package analytics

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

const (
	dimDate           = "dim_date"
	dimPersonaHistory = "dim_persona_history"
)

// history is the table of what the members of a dimension were.
func (d Dimension) history() string { return "dim_" + d.noun() + "_history" }

func (d Dimension) noun() string {
	return strings.TrimSuffix(strings.TrimPrefix(string(d), "dim_"), "s")
}

// members are the dimensions' columns beside the key; a change of a dimension holds a value for each.
func dimensionColumns(d Dimension) []Column {
	switch d {
	case Projects:
		return []Column{
			{Name: "name", Type: "text", Comment: "Its name."},
			{Name: "user_id", Type: `text COLLATE "C" NOT NULL DEFAULT ''`, Comment: "Who owns it."},
			{Name: "industry", Type: "text", Comment: "Its industry."},
		}
	case Users:
		return []Column{
			{Name: "name", Type: "text", Comment: "Their name."},
			{Name: "company", Type: "text", Comment: "Their company."},
			{Name: "country", Type: "text", Comment: "ISO 3166-1 alpha-2 code."},
		}
	}
	return []Column{
		{Name: "project_id", Type: `text COLLATE "C" NOT NULL DEFAULT ''`, Comment: "Project it was made for: what the event says, or else that of its stream."},
		{Name: "user_id", Type: `text COLLATE "C" NOT NULL DEFAULT ''`, Comment: "Who made or last changed it."},
		{Name: "name", Type: "text", Comment: "Its name."},
		{Name: "age", Type: "integer", Comment: "Years; NULL where unknown."},
		{Name: "gender", Type: "text", Comment: "NULL where unknown."},
		{Name: "occupation", Type: "text", Comment: "NULL where unknown."},
		{Name: "segment_id", Type: `text COLLATE "C"`, Comment: "Market segment; NULL where unknown."},
		{Name: "region", Type: "text", Comment: "NULL where unknown."},
		{Name: "language", Type: "text", Comment: "Native language; NULL where unknown."},
	}
}

func grainOf(d Dimension) string {
	return "A row a " + d.noun() + ", as it is. The row with the id '' stands for none. As it was: " + d.history() + "."
}

// own are the columns that every dimension has, behind those of its members.
func ownColumns() []Column {
	return []Column{
		{Name: "created_at", Type: "timestamptz", Comment: "When it was first heard of (occurred_at of the first event in the log); NULL for a placeholder."},
		{Name: "updated_at", Type: "timestamptz", Comment: "When an event last said what it is; NULL for a placeholder."},
		{Name: "position", Type: "bigint NOT NULL DEFAULT 0", Comment: "Position of the event that says so; 0 for a placeholder."},
		listedColumn(),
		{Name: "placeholder", Type: "boolean NOT NULL DEFAULT true", Comment: "Only its id is known, from a fact; the event that introduces it is yet to come."},
	}
}

func (s *Star) dimensionSQL(d Dimension) string {
	columns := []string{d.key() + ` text COLLATE "C" PRIMARY KEY`}
	comments := []string{fmt.Sprintf("COMMENT ON TABLE {{table}} IS %s;\nCOMMENT ON COLUMN {{table}}.%s IS 'Key.';", literal(grainOf(d)), d.key())}
	for _, c := range append(s.members(d), ownColumns()...) {
		columns = append(columns, c.Name+" "+c.Type)
		comments = append(comments, fmt.Sprintf("COMMENT ON COLUMN {{table}}.%s IS %s;", c.Name, literal(c.Comment)))
	}
	sql := "CREATE TABLE {{table}} (\n    " + strings.Join(columns, ",\n    ") + "\n);\n" + strings.Join(comments, "\n")
	if d == Personas {
		sql += embeddingSQL
	}
	return sql
}

// listedColumn tells what lists of participants say.
func listedColumn() Column {
	return Column{Name: "listed", Type: "boolean NOT NULL DEFAULT false", Comment: "What is known comes from a list of participants, not from an event of its own."}
}

// historySQL is type 2 by position: ranges that never change once they are closed, whatever comes late.
func (s *Star) historySQL(d Dimension) string {
	columns := []string{d.key() + ` text COLLATE "C" NOT NULL`, "from_position bigint NOT NULL", "to_position bigint NOT NULL"}
	var comments []string
	comment := func(column, text string) {
		comments = append(comments, fmt.Sprintf("COMMENT ON COLUMN {{table}}.%s IS %s;", column, literal(text)))
	}
	comment(d.key(), "The "+d.noun()+".")
	comment("from_position", "Position of the event that made it so.")
	comment("to_position", "Position of the event that changed it; the largest bigint while it is so.")
	for _, c := range append(s.members(d), listedColumn()) {
		columns = append(columns, c.Name+" "+c.Type)
		comment(c.Name, c.Comment)
	}
	columns = append(columns, "valid_from timestamptz NOT NULL", "valid_to timestamptz", "PRIMARY KEY ("+d.key()+", from_position)")
	comment("valid_from", "occurred_at of the event that made it so.")
	comment("valid_to", "occurred_at of the event that changed it; NULL while it is so.")
	about := fmt.Sprintf("A row each time that events say what a %[1]s is: as it was. A fact belongs to the row with from_position <= position < to_position of its %[1]s; before the first there is none.", d.noun())
	return "CREATE TABLE {{table}} (\n    " + strings.Join(columns, ",\n    ") + "\n);\nCOMMENT ON TABLE {{table}} IS " + literal(about) + ";\n" + strings.Join(comments, "\n")
}

const dateSQL = `CREATE TABLE {{table}} (
    day        date PRIMARY KEY,
    year       integer NOT NULL,
    quarter    integer NOT NULL,
    month      date NOT NULL,
    week       date NOT NULL,
    weekday    integer NOT NULL,
    is_weekend boolean NOT NULL
);
COMMENT ON TABLE {{table}} IS 'A row a day, of all years that facts lie in.';
COMMENT ON COLUMN {{table}}.day IS 'Key.';
COMMENT ON COLUMN {{table}}.year IS 'Calendar year.';
COMMENT ON COLUMN {{table}}.quarter IS '1 to 4.';
COMMENT ON COLUMN {{table}}.month IS 'First day of its month.';
COMMENT ON COLUMN {{table}}.week IS 'Monday of its ISO week.';
COMMENT ON COLUMN {{table}}.weekday IS 'ISO: 1 is Monday, 7 is Sunday.';
COMMENT ON COLUMN {{table}}.is_weekend IS 'Saturday or Sunday.';`

// change is what an event says of a member of a dimension.
type change struct {
	of     Dimension
	id     string
	values []any
	event  eventstore.Recorded
	hint   bool // by the way, in a discussion's list of participants: it counts until the persona's own events say so
}

// changesOf are the members that an event of a stream of a project introduces or changes.
func (s *Star) changesOf(e eventstore.Recorded, project string) ([]change, error) {
	changes, err := vocabularyChanges(e, project)
	for i, c := range changes {
		for _, a := range s.config.Attributes {
			if a.Of == c.of {
				changes[i].values = append(changes[i].values, a.Value(e))
			}
		}
	}
	return changes, err
}

func vocabularyChanges(e eventstore.Recorded, streamProject string) ([]change, error) {
	persona := func(id, project, user, name string, a focusgroup.Attributes, hint bool) change {
		return change{Personas, id, []any{
			cmp.Or(project, streamProject), user, orNull(name), orNullInt(a.Age), orNull(a.Gender), orNull(a.Occupation), orNull(a.SegmentID), orNull(a.Region), orNull(a.Language),
		}, e, hint}
	}
	switch d := e.Data.(type) {
	case focusgroup.UserRegistered:
		return []change{{Users, d.UserID, []any{orNull(d.Name), orNull(d.Company), orNull(d.Country)}, e, false}}, nil
	case focusgroup.ProjectCreated:
		return []change{{Projects, d.ProjectID, []any{orNull(d.Name), d.UserID, orNull(d.Industry)}, e, false}}, nil
	case focusgroup.PersonaCreated:
		return []change{persona(d.PersonaID, d.ProjectID, d.UserID, d.Name, d.Attributes, false)}, nil
	case focusgroup.PersonaEdited:
		return []change{persona(d.PersonaID, d.ProjectID, d.UserID, d.Name, d.Attributes, false)}, nil
	case focusgroup.DiscussionStarted:
		var changes []change
		for _, p := range d.Participants {
			if p.PersonaID != "" {
				changes = append(changes, persona(p.PersonaID, d.ProjectID, d.UserID, p.Name, p.Attributes, true))
			}
		}
		return changes, nil
	}
	return nil, unexpected(e, focusgroup.TypeUserRegistered, focusgroup.TypeProjectCreated, focusgroup.TypePersonaCreated, focusgroup.TypePersonaEdited, focusgroup.TypeDiscussionStarted)
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func orNullInt(n int) any {
	if n == 0 {
		return nil
	}
	return n
}
