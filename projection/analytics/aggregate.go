package analytics

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/sight-platform/hindsight/eventstore"
)

// Aggregate declares a table that is computed from the facts, and is kept fresh where they change: see [Star.Refresh].
type Aggregate struct {
	// Name is lower-case letters, digits and underscores, up to 40.
	Name string
	// Grain says what a row is, and gives the formulas: it becomes the table's comment.
	Grain string
	// By says what is computed anew where facts have changed.
	By Part
	// Columns of the table.
	Columns []Column
	// Key are the columns that name a row.
	Key []string
	// SQL is a SELECT of the columns, in their order. {{name}} stands for a table of the star, $1 for what is to be computed: an
	// array of dates (days, or the Mondays of weeks) or of project ids; $2 for the day it is. It must give the rows of those
	// alone, which the first column of Key names.
	//
	// It may read what leaves a mark when it changes: facts, and aggregates declared before it. Of the dimensions a day or a week
	// may read what never changes: dim_date, and the histories of members by a fact's position. dim_personas, dim_users and
	// dim_projects are as they are now, and rows made of their attributes would not follow: join them where the aggregate is
	// read. A project may read dim_personas, too: it is computed anew when a fact of it or one of its personas has changed.
	SQL string
	// Reach is how many days after it a day still counts in, for an aggregate by day. Days up to the one it is are computed.
	Reach int
}

// Part is what of an aggregate is computed anew at a time.
type Part string

// The parts.
const (
	ByDay     Part = "day"
	ByWeek    Part = "week"
	ByProject Part = "project"
)

func (p Part) arrayType() string {
	if p == ByProject {
		return "text[]"
	}
	return "date[]"
}

func (a Aggregate) validate() error {
	fail := func(reason string) error {
		return &eventstore.InvalidError{Index: -1, Field: "Aggregate " + a.Name, Reason: reason}
	}
	switch {
	case !validName(a.Name):
		return fail("is not named in up to 40 lower-case letters, digits and underscores")
	case a.Grain == "" || a.SQL == "":
		return fail("has no Grain or no SQL")
	case a.By != ByDay && a.By != ByWeek && a.By != ByProject:
		return fail(fmt.Sprintf("is by %q, want ByDay, ByWeek or ByProject", a.By))
	case len(a.Key) == 0:
		return fail("has no Key")
	case a.Reach < 0 || a.Reach > 0 && a.By != ByDay:
		return fail("has a Reach, which only days have")
	}
	for _, c := range a.Columns {
		if !validName(c.Name) || c.Type == "" || c.Comment == "" {
			return fail(fmt.Sprintf("has a column %q without a name, a Type or a Comment", c.Name))
		}
	}
	for _, key := range a.Key {
		if !slices.ContainsFunc(a.Columns, func(c Column) bool { return c.Name == key }) {
			return fail("has no column " + key + " of its Key")
		}
	}
	return nil
}

// validateOrder asks that aggregates are made of earlier ones, as they are computed one after the other.
func validateOrder(all []Aggregate) error {
	later := []string{tableMembers, tableCohorts}
	for _, a := range slices.Backward(all) {
		later = append(later, a.Name)
		for _, name := range a.tables() {
			if slices.Contains(later, name) {
				return &eventstore.InvalidError{Index: -1, Field: "Aggregate " + a.Name, Reason: "is made of " + name + ", which is not computed before it"}
			}
		}
	}
	return nil
}

// tables are those that its SQL names.
func (a Aggregate) tables() []string {
	names := tableNames().FindAllString(a.SQL, -1)
	for i := range names {
		names[i] = strings.Trim(names[i], "{}")
	}
	return names
}

// madeOf are the aggregates that one is made of, and those that they are made of.
func (s *Star) madeOf(a Aggregate) map[string]bool {
	names := map[string]bool{}
	for _, name := range a.tables() {
		if other, ok := s.aggregate(name); ok {
			names[name] = true
			maps.Copy(names, s.madeOf(other))
		}
	}
	return names
}

func (a Aggregate) sql() string {
	var columns, comments []string
	for _, c := range a.Columns {
		columns = append(columns, c.Name+" "+c.Type)
		comments = append(comments, fmt.Sprintf("COMMENT ON COLUMN {{table}}.%s IS %s;", c.Name, literal(c.Comment)))
	}
	columns = append(columns, "PRIMARY KEY ("+strings.Join(a.Key, ", ")+")")
	index := ""
	if slices.Index(a.Key, project) > 0 { // a dashboard is mostly of one project
		index = fmt.Sprintf("CREATE INDEX ON {{table}} (%s, %s);\n", project, a.Key[0])
	}
	return fmt.Sprintf("CREATE TABLE {{table}} (\n    %s\n);\n%sCOMMENT ON TABLE {{table}} IS %s;\n%s",
		strings.Join(columns, ",\n    "), index, literal(a.Grain), strings.Join(comments, "\n"))
}

const day, project = "date", "project_id"

func dayColumn() Column {
	return Column{Name: day, Type: "date NOT NULL", Comment: "Day, in the star's time zone."}
}

func weekColumn() Column {
	return Column{Name: "week", Type: "date NOT NULL", Comment: "Monday of the ISO week, in the star's time zone."}
}

func projectColumn() Column {
	return Column{Name: project, Type: `text COLLATE "C" NOT NULL`, Comment: "Project; '' for none."}
}

func count(name, comment string) Column {
	return Column{Name: name, Type: "bigint NOT NULL", Comment: comment}
}

func measure(name, comment string) Column {
	return Column{Name: name, Type: "double precision", Comment: comment}
}

// inWeeks chooses the days of the weeks $1; as an array, which an index takes.
const inWeeks = `day = ANY (ARRAY(SELECT w + n FROM unnest($1) AS w, generate_series(0, 6) AS n))`

// counted are the interactions, as n by who made them. Counting distinct ones of all rows would sort all rows.
func counted(by, more, where string) string {
	return ` FROM (SELECT ` + by + `, count(*) AS n` + more + ` FROM {{fact_persona_interactions}} WHERE ` + where + ` GROUP BY ` + by + `) AS counted`
}

// aggregates are those that every star has.
func aggregates(weights Weights, quality Quality) []Aggregate {
	return []Aggregate{
		{
			Name: "daily_active_personas", By: ByDay, Key: []string{day, project},
			Grain: "A row a day and project with interactions.",
			Columns: []Column{
				dayColumn(), projectColumn(), count("active_personas", "Different personas with an interaction."),
				count("total_interactions", "Interactions."), measure("avg_duration_seconds", "Mean seconds of those whose duration is known; NULL where none is."),
			},
			SQL: `SELECT day, project_id, count(*), sum(n), sum(seconds) / nullif(sum(known), 0)` + counted("day, project_id, persona_id", `, count(duration_seconds) AS known, sum(duration_seconds) AS seconds`, `day = ANY ($1)`) + ` GROUP BY 1, 2`,
		},
		{
			Name: "daily_active_users", By: ByDay, Key: []string{day, project},
			Grain:   "A row a day and project with interactions of a known user.",
			Columns: []Column{dayColumn(), projectColumn(), count("active_users", "Different users."), count("total_interactions", "Their interactions.")},
			SQL:     `SELECT day, project_id, count(*), sum(n)` + counted("day, project_id, user_id", ``, `day = ANY ($1) AND user_id <> ''`) + ` GROUP BY 1, 2`,
		},
		{
			Name: "weekly_active_personas", By: ByWeek, Key: []string{"week", project},
			Grain:   "A row a week and project with interactions.",
			Columns: []Column{weekColumn(), projectColumn(), count("active_personas", "Different personas with an interaction."), count("total_interactions", "Interactions.")},
			SQL:     `SELECT week, project_id, count(DISTINCT persona_id), sum(n)` + counted("day, project_id, persona_id", ``, inWeeks) + ` JOIN {{dim_date}} USING (day) GROUP BY 1, 2`,
		},
		{
			Name: "weekly_active_users", By: ByWeek, Key: []string{"week", project},
			Grain:   "A row a week and project with interactions of a known user.",
			Columns: []Column{weekColumn(), projectColumn(), count("active_users", "Different users."), count("total_interactions", "Their interactions.")},
			SQL:     `SELECT week, project_id, count(DISTINCT user_id), sum(n)` + counted("day, project_id, user_id", ``, inWeeks+` AND user_id <> ''`) + ` JOIN {{dim_date}} USING (day) GROUP BY 1, 2`,
		},
		{
			Name: "daily_llm_costs", By: ByDay, Key: []string{day, project, "model"},
			Grain: "A row a day, project and model that was paid for.",
			Columns: []Column{
				dayColumn(), projectColumn(),
				{Name: "model", Type: `text COLLATE "C" NOT NULL`, Comment: "Name of the model; '' where unknown."},
				count("calls", "Events that it was paid for in."), count("tokens_in", "Tokens of the prompts."), count("tokens_out", "Tokens of the answers."),
				measure("cost", "US dollars."),
			},
			SQL: `SELECT day, project_id, model, count(*), sum(tokens_in), sum(tokens_out), sum(cost) FROM {{fact_llm_usage}} WHERE day = ANY ($1) GROUP BY 1, 2, 3`,
		},
		activity(), effectiveness(quality), health(weights), diversity(), evenness(),
	}
}

// Quality says how response_quality of focus_group_effectiveness is made: the weights of its parts, which need not add up to 1,
// and from how many words on a response is a full one. The zero value weighs all alike, with 40 words.
type Quality struct {
	Length, OnQuestion, Variety float64
	FullWords                   int
}

func (q Quality) withDefaults() Quality {
	if q.Length == 0 && q.OnQuestion == 0 && q.Variety == 0 {
		q.Length, q.OnQuestion, q.Variety = 1, 1, 1
	}
	if q.FullWords == 0 {
		q.FullWords = 40
	}
	return q
}

// validateWeights asks for weights that are finite and not negative. Where all are 0 they are the default's.
func validateWeights(h Weights, q Quality) error {
	for field, weights := range map[string][]float64{"Config.Health": {h.Completion, h.Engagement, h.Recency}, "Config.Quality": {q.Length, q.OnQuestion, q.Variety}} {
		for _, w := range weights {
			if math.IsNaN(w) || math.IsInf(w, 0) || w < 0 {
				return &eventstore.InvalidError{Index: -1, Field: field, Reason: fmt.Sprintf("has a weight of %g", w)}
			}
		}
	}
	if q.FullWords < 0 {
		return &eventstore.InvalidError{Index: -1, Field: "Config.Quality", Reason: "has negative FullWords"}
	}
	return nil
}

func effectiveness(q Quality) Aggregate {
	return Aggregate{
		Name: "focus_group_effectiveness", By: ByDay, Key: []string{day, project},
		Grain: fmt.Sprintf("A row a day and project on which discussions began. response_quality = (%g * min(words_per_response / %d, 1) + %g * on_question_share + %g * lexical_variety) / "+
			"the weights of those of the three that are known.", q.Length, q.FullWords, q.OnQuestion, q.Variety),
		Columns: []Column{
			dayColumn(), projectColumn(), count("sessions", "Discussions that began."), count("completed", "Those of them that were completed."),
			count("questions", "Questions asked."), count("responses", "Responses of participants."), count("followups", "Further turns."),
			measure("responses_per_participant_question", "Responses of sessions with invited participants and questions, divided by the sum of invited times questions; NULL without any."),
			measure("words_per_response", "Mean words of a response, each response alike."),
			measure("on_question_share", "Mean of the sessions' shares."), measure("lexical_variety", "Mean of the sessions' varieties."),
			measure("seconds_per_question", "Mean of the sessions' means."),
			measure("response_quality", "0 to 1: see the table."),
		},
		SQL: fmt.Sprintf(`
SELECT day, project_id, sessions, completed, questions, responses, followups, per_question, words_per_response, on_question_share, lexical_variety, seconds_per_question,
       (SELECT sum(weight * part) / nullif(sum(weight) FILTER (WHERE part IS NOT NULL), 0)
          FROM (VALUES (%[1]g::double precision, CASE WHEN words_per_response IS NOT NULL THEN least(words_per_response / %[2]d, 1) END),
                       (%[3]g, on_question_share), (%[4]g, lexical_variety)) AS parts (weight, part))
  FROM (SELECT day, project_id, count(*) AS sessions, count(*) FILTER (WHERE completed) AS completed, sum(questions) AS questions,
               sum(responses) AS responses, sum(followups) AS followups,
               (sum(responses) FILTER (WHERE invited > 0 AND questions > 0))::double precision / nullif(sum(invited::bigint * questions), 0) AS per_question,
               sum(words_per_response * responses) / nullif(sum(responses) FILTER (WHERE words_per_response IS NOT NULL), 0) AS words_per_response,
               avg(on_question_share) AS on_question_share, avg(lexical_variety) AS lexical_variety, avg(seconds_per_question) AS seconds_per_question
          FROM {{fact_focus_group_sessions}} WHERE day = ANY ($1) GROUP BY 1, 2) AS s`, q.Length, q.FullWords, q.OnQuestion, q.Variety),
	}
}

// Weights of the parts of a project's health score; they need not add up to 1. The zero value weighs all alike.
type Weights struct{ Completion, Engagement, Recency float64 }

func (w Weights) withDefaults() Weights {
	if w == (Weights{}) {
		return Weights{1, 1, 1}
	}
	return w
}

// healthWindow is how many days a score looks back.
const healthWindow = 28

func health(w Weights) Aggregate {
	return Aggregate{
		Name: "project_health_scores", By: ByDay, Key: []string{day, project}, Reach: healthWindow - 1,
		Grain: fmt.Sprintf("A row a day and project that had an interaction or a session in the %d days up to it. "+
			"score = (%g * completion + %g * engagement + %g * recency) / the weights of those of the three that are known.", healthWindow, w.Completion, w.Engagement, w.Recency),
		Columns: []Column{
			dayColumn(), projectColumn(), count("sessions", "Discussions that began in the window."),
			measure("completion", "Share of them that were completed; NULL without any."),
			measure("engagement", "Responses per invited participant and question, at most 1, of those of them with both; NULL without any."),
			{Name: "last_active", Type: "date NOT NULL", Comment: "Last day up to this one with an interaction or the beginning of a session."},
			measure("recency", fmt.Sprintf("1 on a day with activity, falling by 1/%d a day.", healthWindow)),
			measure("score", "0 to 1: see the table."),
		},
		SQL: fmt.Sprintf(`
SELECT date, project_id, sessions, completion, engagement, last_active, recency,
       (coalesce(%[2]g * completion, 0) + coalesce(%[3]g * engagement, 0) + %[4]g * recency)
       / nullif(CASE WHEN completion IS NULL THEN 0 ELSE %[2]g END + CASE WHEN engagement IS NULL THEN 0 ELSE %[3]g END + %[4]g, 0)
  FROM (SELECT d.date, a.project_id, coalesce(sum(a.sessions), 0) AS sessions,
               sum(a.completed)::double precision / nullif(sum(a.sessions), 0) AS completion,
               CASE WHEN sum(a.chances) > 0 THEN least(1, sum(a.responses)::double precision / sum(a.chances)) END AS engagement,
               max(a.day) AS last_active, 1 - (d.date - max(a.day))::double precision / %[1]d AS recency
          FROM (SELECT unnest($1::date[]) AS date) AS d
          JOIN (SELECT day, project_id, count(*) AS sessions, count(*) FILTER (WHERE completed) AS completed,
                       sum(responses) FILTER (WHERE invited > 0 AND questions > 0) AS responses, sum(invited::bigint * questions) AS chances
                  FROM {{fact_focus_group_sessions}} WHERE day > (SELECT min(d) FROM unnest($1::date[]) AS d) - %[1]d AND day <= (SELECT max(d) FROM unnest($1::date[]) AS d) GROUP BY 1, 2
                 UNION ALL
                SELECT DISTINCT date, project_id, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint
                  FROM {{daily_active_personas}} WHERE date > (SELECT min(d) FROM unnest($1::date[]) AS d) - %[1]d AND date <= (SELECT max(d) FROM unnest($1::date[]) AS d)) AS a
            ON a.day > d.date - %[1]d AND a.day <= d.date
         WHERE d.date <= $2::date
         GROUP BY 1, 2) AS h`, healthWindow, w.Completion, w.Engagement, w.Recency),
	}
}

// traits are the attributes that diversity is measured in.
const traits = `
  FROM {{dim_personas}} p
 CROSS JOIN LATERAL (VALUES ('age_band', CASE WHEN p.age IS NULL THEN NULL WHEN p.age < 18 THEN 'under 18' WHEN p.age < 25 THEN '18-24' WHEN p.age < 35 THEN '25-34'
                                              WHEN p.age < 45 THEN '35-44' WHEN p.age < 55 THEN '45-54' WHEN p.age < 65 THEN '55-64' ELSE '65 and over' END),
                            ('gender', p.gender), ('occupation', p.occupation), ('segment', p.segment_id)) AS t (attribute, value)
 WHERE p.project_id = ANY ($1) AND NOT p.placeholder`

func diversity() Aggregate {
	return Aggregate{
		Name: "persona_diversity", By: ByProject, Key: []string{project, "attribute", "value"},
		Grain: "A row a project, attribute of personas and value of it, over the personas that were made for the project, as they are.",
		Columns: []Column{
			projectColumn(),
			{Name: "attribute", Type: "text NOT NULL", Comment: "age_band, gender, occupation or segment."},
			{Name: "value", Type: `text COLLATE "C" NOT NULL`, Comment: "The value; (unknown) where none is known."},
			count("personas", "Personas with the value."), measure("share", "Of all of the project, from 0 to 1."),
		},
		SQL: `SELECT p.project_id, t.attribute, coalesce(t.value, '(unknown)'), count(*), count(*)::double precision / sum(count(*)) OVER (PARTITION BY p.project_id, t.attribute)` + traits + ` GROUP BY 1, 2, 3`,
	}
}

func evenness() Aggregate {
	return Aggregate{
		Name: "persona_evenness", By: ByProject, Key: []string{project, "attribute"},
		Grain: "A row a project and attribute. evenness = -sum(share * ln(share)) / ln(number of values), over the known values (Pielou): 1 where all are alike frequent, NULL with fewer than two.",
		Columns: []Column{
			projectColumn(),
			{Name: "attribute", Type: "text NOT NULL", Comment: "age_band, gender, occupation or segment."},
			count("personas", "Personas whose value is known."), count("distinct_values", "Different known values."), measure("evenness", "0 to 1: see the table."),
		},
		SQL: `
SELECT project_id, attribute, coalesce(sum(n), 0), count(n), -sum(n / total * ln(n / total)) / nullif(ln(nullif(count(n), 0)), 0)
  FROM (SELECT p.project_id, t.attribute, CASE WHEN t.value IS NOT NULL THEN count(*)::double precision END AS n,
               sum(count(*) FILTER (WHERE t.value IS NOT NULL)) OVER (PARTITION BY p.project_id, t.attribute)::double precision AS total` + traits + `
         GROUP BY p.project_id, t.attribute, t.value) AS counted
 GROUP BY 1, 2`,
	}
}
