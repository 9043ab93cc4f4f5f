package analytics

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/sight-platform/hindsight/eventstore"
)

// MaterializedView returns the SQL that makes a materialized view of an aggregate (weekly_retention_cohorts is one too), computed
// from the facts and dimensions alone, and its unique index, for who would rather run REFRESH MATERIALIZED VIEW CONCURRENTLY
// than [Star.Refresh]. It holds the rows that the aggregate has on the day of its refresh, and each refresh computes them all.
// The view's name is lower-case letters, digits and underscores, up to 40; it stands in the log's schema. The SQL is two
// statements, for the owner of the star's tables. Errors match [eventstore.ErrInvalid].
func (s *Star) MaterializedView(aggregate, view string) (string, error) {
	a, ok := s.aggregate(aggregate)
	if !ok {
		return "", &eventstore.InvalidError{Index: -1, Field: "aggregate", Reason: fmt.Sprintf("is %q, which the star does not have", aggregate)}
	}
	if !validName(view) {
		return "", &eventstore.InvalidError{Index: -1, Field: "view", Reason: fmt.Sprintf("is %q: want up to 40 lower-case letters, digits and underscores", view)}
	}
	var others []string
	sql := s.whole(a, &others)
	with := ""
	if len(others) > 0 {
		with = "WITH " + strings.Join(others, ",\n") + "\n"
	}
	target := quote(s.store.Schema(), view)
	return fmt.Sprintf("CREATE MATERIALIZED VIEW %s AS\n%s%s;\nCREATE UNIQUE INDEX ON %s (%s);", target, with, sql, target, strings.Join(a.Key, ", ")), nil
}

func (s *Star) aggregate(name string) (Aggregate, bool) {
	all := append(s.aggregates[:len(s.aggregates):len(s.aggregates)], wholeCohorts())
	i := slices.IndexFunc(all, func(a Aggregate) bool { return a.Name == name })
	if i < 0 {
		return Aggregate{}, false
	}
	return all[i], true
}

// whole is the SELECT of an aggregate over all days, weeks or projects, with the types of its columns. Aggregates that it is made
// of become common table expressions, each before those that use it.
func (s *Star) whole(a Aggregate, others *[]string) string {
	sql := tableNames().ReplaceAllStringFunc(a.SQL, func(found string) string {
		name := strings.Trim(found, "{}")
		other, ok := s.aggregate(name)
		if !ok {
			return s.table(name)
		}
		head := name + " AS ("
		if !slices.ContainsFunc(*others, func(o string) bool { return strings.HasPrefix(o, head) }) {
			inner := s.whole(other, others) // of earlier ones: it ends
			*others = append(*others, head+inner+")")
		}
		return name
	})
	today := fmt.Sprintf("(clock_timestamp() AT TIME ZONE %s)::date", literal(s.config.TimeZone))
	sql = strings.NewReplacer("$1", s.allParts(a, today), "$2", today).Replace(sql)
	var names, columns []string
	for _, c := range a.Columns {
		names = append(names, c.Name)
		columns = append(columns, fmt.Sprintf("%s::%s", c.Name, bareType(c.Type)))
	}
	return fmt.Sprintf("SELECT %s FROM (%s) AS r (%s)", strings.Join(columns, ", "), sql, strings.Join(names, ", "))
}

// allParts is an array of all that an aggregate could have rows of. The cast keeps = ANY from taking it for a set of arrays.
func (s *Star) allParts(a Aggregate, today string) string {
	query := `SELECT array_agg(project_id) FROM ` + s.table(string(Projects))
	switch a.By {
	case ByDay:
		query = fmt.Sprintf(`SELECT array_agg(DISTINCT day + n) FROM %s, generate_series(0, %d) AS n`, s.table(dimDate), a.Reach)
		if a.Reach > 0 {
			query += ` WHERE day + n <= ` + today
		}
	case ByWeek:
		query = `SELECT array_agg(DISTINCT week) FROM ` + s.table(dimDate)
	}
	return fmt.Sprintf("(%s)::%s", query, a.By.arrayType())
}

// bareType is a column's type without its constraints, which a view cannot have.
func bareType(declared string) string {
	return regexp.MustCompile(`(?i)\s+(NOT NULL|NULL|DEFAULT|CHECK|COLLATE|REFERENCES|GENERATED|UNIQUE|PRIMARY KEY)\b.*`).ReplaceAllString(declared, "")
}

// wholeCohorts is weekly_retention_cohorts in one SELECT.
func wholeCohorts() Aggregate {
	return Aggregate{
		Name: tableCohorts, By: ByWeek, Key: []string{project, "member", "cohort_week", "week_n"},
		Columns: []Column{
			{Name: project, Type: "text"},
			{Name: "member", Type: "text"},
			{Name: "cohort_week", Type: "date"},
			{Name: "week_n", Type: "integer"},
			{Name: "cohort_size", Type: "bigint"},
			{Name: "active", Type: "bigint"},
			{Name: "retention", Type: "double precision"},
		},
		SQL: fmt.Sprintf(`
WITH members AS (SELECT project_id, member, member_id, min(week) AS cohort_week FROM {{weekly_activity}} GROUP BY 1, 2, 3),
     cells AS (SELECT project_id, member, cohort_week, n AS week_n, count(*) AS size, cohort_week + 7 * n AS week
                 FROM members CROSS JOIN generate_series(0, %d) AS n GROUP BY 1, 2, 3, 4),
     counted AS (SELECT project_id, member, cohort_week, week, count(*) AS active FROM members JOIN {{weekly_activity}} USING (project_id, member, member_id) GROUP BY 1, 2, 3, 4)
SELECT project_id, member, cohort_week, week_n, size,
       CASE WHEN week + 7 <= $2 THEN coalesce(active, 0) END, CASE WHEN week + 7 <= $2 THEN coalesce(active, 0)::double precision / size END
  FROM cells LEFT JOIN counted USING (project_id, member, cohort_week, week)`, cohortWeeks),
	}
}
