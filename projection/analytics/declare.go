package analytics

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
)

// Fact declares a fact table. Its rows are made of events, one event at a time, and never change. Beside its own columns each
// has position (of the event), timestamp (the event's occurred_at), day (of timestamp, in Config.TimeZone) and project_id.
type Fact struct {
	// Name is lower-case letters, digits and underscores, up to 40; begin it with fact_.
	Name string
	// Grain says what a row is: it becomes the table's comment.
	Grain string
	// Types of the events that make rows.
	Types []string
	// Columns beside those that every fact has.
	Columns []Column
	// Lines says that an event may make several rows; a column line numbers them from 1.
	Lines bool
	// Rows makes an event's rows: one at most without Lines. An error parks the event.
	Rows func(eventstore.Recorded) ([]Row, error)
}

// Row is a row of a fact: its project ("" where none is known), and a value for each of the declared columns.
type Row struct {
	Project string
	Values  []any
}

// Column declares a column.
type Column struct {
	Name string
	// Type in SQL, with NOT NULL, DEFAULT or CHECK where wanted: "integer NOT NULL CHECK (words >= 0)".
	Type string
	// Comment says what it means, in which unit.
	Comment string
	// Of is the dimension whose member's id it holds; such a column is never NULL: "" is the member that stands for none.
	Of Dimension
	// Index it, with the day behind.
	Index bool
}

// Dimension names a dimension that facts may refer to.
type Dimension string

// The dimensions.
const (
	Personas Dimension = "dim_personas"
	Users    Dimension = "dim_users"
	Projects Dimension = "dim_projects"
)

func (d Dimension) key() string { return d.noun() + "_id" }

func validName(name string) bool {
	ok, _ := regexp.MatchString(`^[a-z_][a-z0-9_]{0,39}$`, name)
	return ok
}

func (f Fact) validate() error {
	fail := func(reason string) error {
		return &eventstore.InvalidError{Index: -1, Field: "Fact " + f.Name, Reason: reason}
	}
	switch {
	case !validName(f.Name):
		return fail("is not named in up to 40 lower-case letters, digits and underscores")
	case f.Grain == "":
		return fail("has no Grain")
	case len(f.Types) == 0:
		return fail("has no Types")
	case f.Rows == nil:
		return fail("has no Rows")
	}
	seen := map[string]bool{"position": true, "timestamp": true, "day": true, "project_id": true, "line": true}
	for _, c := range f.Columns {
		switch {
		case !validName(c.Name) || seen[c.Name]:
			return fail(fmt.Sprintf("has a column %q, which is no name or stands there already", c.Name))
		case c.Comment == "":
			return fail("has a column " + c.Name + " without a Comment")
		case c.Of == "" && c.Type == "":
			return fail("has a column " + c.Name + " without a Type")
		case c.Of != "" && c.Of != Personas && c.Of != Users && c.Of != Projects:
			return fail(fmt.Sprintf("has a column %s of %q, which is no dimension", c.Name, c.Of))
		}
		seen[c.Name] = true
	}
	return nil
}

// columns are the names in the order of a row's values.
func (f Fact) columns() []string {
	names := []string{"position", "timestamp", "project_id"}
	if f.Lines {
		names = append(names, "line")
	}
	for _, c := range f.Columns {
		names = append(names, c.Name)
	}
	return names
}

// all are the columns of the table, common ones first.
func (f Fact) all(zone string) []Column {
	columns := []Column{
		{Name: "position", Type: "bigint NOT NULL", Comment: "Position of the event in the log: the key, and the link back to what was said."},
	}
	if f.Lines {
		columns = append(columns, Column{Name: "line", Type: "smallint NOT NULL", Comment: "Number of the row among those of its event, from 1."})
	}
	columns = append(columns,
		Column{Name: "timestamp", Type: "timestamptz NOT NULL", Comment: "When it happened (the event's occurred_at)."},
		Column{
			Name: "day", Type: "date NOT NULL GENERATED ALWAYS AS ((timestamp AT TIME ZONE " + literal(zone) + ")::date) STORED",
			Comment: "Day of timestamp in the time zone " + zone + ".",
		},
		Column{Name: "project_id", Of: Projects, Comment: "Project it belongs to.", Index: true})
	return append(columns, f.Columns...)
}

// sql creates the table, partitioned by month of timestamp. The tables of dimensions are there already.
func (f Fact) sql(zone string, tableOf func(name string) string) string {
	var columns, comments, indexes []string
	for _, c := range f.all(zone) {
		definition := c.Name + " " + c.Type
		if c.Of != "" {
			definition = fmt.Sprintf("%s text COLLATE \"C\" NOT NULL DEFAULT '' REFERENCES %s", c.Name, tableOf(string(c.Of)))
		}
		columns = append(columns, definition)
		comments = append(comments, fmt.Sprintf("COMMENT ON COLUMN {{table}}.%s IS %s;", c.Name, literal(c.Comment)))
		if c.Index {
			indexes = append(indexes, fmt.Sprintf("CREATE INDEX ON {{table}} (%s, day);", c.Name))
		}
	}
	key := "position, timestamp"
	if f.Lines {
		key = "position, line, timestamp"
	}
	columns = append(columns, "FOREIGN KEY (day) REFERENCES "+tableOf(dimDate), "PRIMARY KEY ("+key+")")
	return fmt.Sprintf("CREATE TABLE {{table}} (\n    %s\n) PARTITION BY RANGE (timestamp);\nCREATE INDEX ON {{table}} (day);\n%s\nCOMMENT ON TABLE {{table}} IS %s;\n%s",
		strings.Join(columns, ",\n    "), strings.Join(indexes, "\n"), literal(f.Grain), strings.Join(comments, "\n"))
}

func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

func quote(schema, table string) string { return pgx.Identifier{schema, table}.Sanitize() }
