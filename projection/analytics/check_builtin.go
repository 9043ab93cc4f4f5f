package analytics

import (
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"
)

//go:embed sql/*.sql
var sqlFiles embed.FS

// sqlOf reads a statement of sql/ and fills pairs of a name and a text in.
func sqlOf(file string, pairs ...string) (string, error) {
	text, err := sqlFiles.ReadFile("sql/" + file + ".sql")
	return withTable(string(text), pairs...), err
}

// withTable fills pairs of a name and a text into a statement.
func withTable(sql string, pairs ...string) string {
	for i := 0; i+1 < len(pairs); i += 2 {
		sql = strings.ReplaceAll(sql, "{{"+pairs[i]+"}}", pairs[i+1])
	}
	return sql
}

// completenessSuffix follows the fact's name.
const completenessSuffix = ".completeness"

// checkList collects built-in checks, and the first error of their files.
type checkList struct {
	all []Check
	err error
}

func (l *checkList) add(c Check, file string, pairs ...string) {
	sql, err := sqlOf(file, pairs...)
	if err != nil && l.err == nil {
		l.err = err
	}
	c.SQL = sql + c.SQL // a condition behind the file's SELECT
	l.all = append(l.all, c)
}

// builtinChecks are the checks that every star has; each fact, those of a user too, has its own.
func (s *Star) builtinChecks() ([]Check, error) {
	var list checkList
	types := make([]string, 0, len(s.Spec().Types))
	for _, name := range s.Spec().Types {
		types = append(types, literal(name))
	}
	list.add(Check{Name: "star.freshness", About: "an event that the star wants waits for longer than five minutes"},
		"check_waiting", "version", fmt.Sprint(s.config.Version), "types", strings.Join(types, ", "))
	list.add(Check{Name: "star.parked", About: "an event could not be applied, or waits behind one: no fact has it", Warn: 1}, "check_parked", "version", fmt.Sprint(s.config.Version))
	list.all = append(list.all, Check{
		Name: "aggregates.freshness", About: "minutes that the aggregates lag behind the facts, or behind a day that has begun", Run: s.freshness, Warn: 10, Error: 60,
	})
	for _, f := range s.facts {
		list.all = append(list.all, Check{
			Name: f.Name + completenessSuffix, Run: s.completeness(f),
			About: "an event of the log has not the rows that it makes, or more, or there are rows of none",
		})
		if f.Name != FactSessions { // whose rows go on filling
			list.all = append(list.all, Check{
				Name: f.Name + ".agrees", About: "a row of a sample is not what Rows makes of its event", Run: s.exactness(f),
			})
		}
		s.rowChecks(&list, f)
		s.trendChecks(&list, f)
	}
	for _, d := range []Dimension{Projects, Users, Personas} {
		list.add(Check{
			Name: string(d) + ".placeholders", About: "facts mention it, and no event has introduced it", Warn: 1,
			Total: `SELECT count(*) FROM {{` + string(d) + `}} WHERE ` + d.key() + ` <> ''`,
		}, "check_placeholders", "dimension", "{{"+string(d)+"}}", "key", d.key())
	}
	list.add(Check{Name: "dim_persona_history.unbroken", About: "the states of a persona do not follow each other", Total: total(dimPersonaHistory)}, "check_history")
	list.all = append(list.all, acceptedValues()...)
	list.all = append(list.all, Check{
		Name: FactSessions + ".one_a_discussion", About: "a discussion has begun more than once", Total: total(FactSessions), Warn: 1,
		SQL: `SELECT discussion_id, count(*) AS rows, array_agg(position ORDER BY position) AS positions FROM {{` + FactSessions + `}} GROUP BY 1 HAVING count(*) > 1`,
	}, Check{
		Name: FactSessions + ".times", About: "a discussion has ended before it began: clocks disagree", Total: total(FactSessions), Warn: 1,
		SQL: `SELECT position, discussion_id, timestamp, ended_at FROM {{` + FactSessions + `}} WHERE ended_at < timestamp`,
	})
	for _, a := range s.aggregates {
		list.all = append(list.all, Check{Name: a.Name + ".agrees", About: "the stored row is not what the facts add up to", Run: s.agreement(a)})
	}
	cells, err := sqlOf("check_cohorts", "zone", literal(s.config.TimeZone), "weeks", fmt.Sprint(cohortWeeks))
	list.all = append(list.all, Check{
		Name: tableCohorts + ".agrees", About: "the stored cell is not what the weekly activity adds up to",
		SQL:   `SELECT stored, computed FROM (` + cells + `) AS cells WHERE differs`,
		Total: `SELECT count(*) FROM (` + cells + `) AS cells`,
	})
	return list.all, errors.Join(list.err, err)
}

func total(table string) string { return `SELECT count(*) FROM {{` + table + `}}` }

// rowChecks judge a fact's rows each by itself.
func (s *Star) rowChecks(list *checkList, f Fact) {
	fact := "{{" + f.Name + "}}"
	var orphans []string
	for _, c := range append(f.all(s.config.TimeZone), Column{Name: "day", Of: dimDate}) {
		if c.Of == "" {
			continue
		}
		key := c.Of.key()
		if c.Of == dimDate {
			key = "day"
		}
		sql, err := sqlOf("check_orphans", "fact", fact, "column", c.Name, "dimension", "{{"+string(c.Of)+"}}", "key", key)
		if err != nil {
			list.err = err
		}
		orphans = append(orphans, sql)
	}
	list.all = append(list.all, Check{
		Name: f.Name + ".orphans", About: "a row refers to a member that its dimension has not", Total: total(f.Name), SQL: strings.Join(orphans, " UNION ALL\n"),
	})
	list.add(Check{Name: f.Name + ".future", About: "a row lies in the future", Total: total(f.Name)}, "check_future", "fact", fact)
	key := "position"
	if f.Lines {
		key = "position, line"
	}
	list.add(Check{Name: f.Name + ".unique", About: "an event has made a row twice", Total: total(f.Name)}, "check_unique", "fact", fact, "columns", key)
	if slices.ContainsFunc(f.Columns, func(c Column) bool { return c.Name == "duration_seconds" }) {
		limit, words := "3600", "an hour"
		if f.Name == FactSessions { // a whole discussion
			limit, words = "86400", "a day"
		}
		list.add(Check{Name: f.Name + ".duration", About: "it took longer than " + words + ", or less than no time", Warn: 1, Total: total(f.Name)},
			"check_duration", "fact", fact, "limit", limit)
	}
}

// trendChecks hold a fact's newest rows against those before.
func (s *Star) trendChecks(list *checkList, f Fact) {
	fact := "{{" + f.Name + "}}"
	var known, values []string
	for _, c := range f.all(s.config.TimeZone) {
		value := c.Name
		switch {
		case c.Of != "":
			value = "nullif(" + c.Name + ", '')"
		case strings.Contains(strings.ToUpper(c.Type), "NOT NULL"):
			continue
		}
		known = append(known, fmt.Sprintf("count(%[1]s) FILTER (WHERE now) AS %[2]s_now, count(%[1]s) FILTER (WHERE NOT now) AS %[2]s_before", value, c.Name))
		values = append(values, fmt.Sprintf("('%[1]s', %[1]s_now, %[1]s_before)", c.Name))
	}
	nulls, err := sqlOf("check_nulls", "fact", fact, "zone", literal(s.config.TimeZone), "known", strings.Join(known, ",\n               "), "values", strings.Join(values, ", "))
	if err != nil {
		list.err = err
	}
	list.all = append(list.all, Check{
		Name: f.Name + ".nulls", Warn: 1,
		About: "a column is unknown in the newest seven days by a fifth of the rows more often than in the 28 days before",
		SQL:   `SELECT * FROM (` + nulls + `) AS shares WHERE unknown_now > unknown_before + 0.2`,
		Total: `SELECT count(*) FROM (` + nulls + `) AS shares`,
	})
	rows, err := sqlOf("check_rows", "fact", fact, "zone", literal(s.config.TimeZone))
	if err != nil {
		list.err = err
	}
	list.all = append(list.all, Check{
		Name: f.Name + ".rows", Warn: 1,
		About: "yesterday has less than a fifth, or more than five times, of the rows that its weekday had in the four weeks before",
		SQL:   `SELECT * FROM (` + rows + `) AS days WHERE rows < usual / 5 OR rows > usual * 5`,
		Total: `SELECT count(*) FROM (` + rows + `) AS days`,
	})
}

// acceptedValues are rules that the tables' constraints do not hold.
func acceptedValues() []Check {
	usage := Check{
		Name: FactUsage + ".values", About: "tokens of a model that has no name, or dollars for no tokens", Total: total(FactUsage), Warn: 1,
		SQL: `SELECT position, timestamp, model, tokens_in, tokens_out, cost FROM {{` + FactUsage + `}}
 WHERE model = '' AND tokens_in + tokens_out > 0 OR cost > 0 AND tokens_in + tokens_out = 0`,
	}
	check := func(table, about, columns, condition string) Check {
		return Check{Name: table + ".values", About: about, Total: total(table), SQL: `SELECT ` + columns + ` FROM {{` + table + `}} WHERE ` + condition}
	}
	return []Check{
		usage,
		check(FactTurns, "the lengths of a text do not go together", "position, timestamp, words, distinct_words, characters",
			`words < 0 OR distinct_words > words OR words > characters OR (words > 0) <> (distinct_words > 0)`),
		check(FactAnswers, "an answer is not of its question's type", "position, line, question_type, choices, rating, scale_max, words",
			`rating < 0 OR rating > scale_max OR question_type = 'single_choice' AND cardinality(choices) > 1 OR (choices IS NOT NULL) <> (question_type IN ('single_choice', 'multiple_choice'))`),
		check(FactSessions, "the numbers of a discussion do not go together", "position, discussion_id, invited, questions, responses, followups, on_question_share, lexical_variety, completed, ended_at",
			`least(invited, planned_questions, questions, responses, followups, participants, words) < 0 OR on_question_share NOT BETWEEN 0 AND 1
    OR lexical_variety NOT BETWEEN 0 AND 1 OR completed AND ended_at IS NULL`),
		check(string(Personas), "an age that nobody has", "persona_id, age", `age NOT BETWEEN 0 AND 120`),
	}
}
