package analytics_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// group of rows with one key, and what they add up to.
type group struct {
	key  row
	rows []row
}

// groupBy parts rows by a key.
func groupBy(rows []row, key func(row) row) []*group {
	var order []*group
	found := map[string]*group{}
	for _, r := range rows {
		k := key(r)
		if k == nil {
			continue
		}
		text := fmt.Sprintf("%q", k)
		g := found[text]
		if g == nil {
			g = &group{key: k}
			found[text], order = g, append(order, g)
		}
		g.rows = append(g.rows, r)
	}
	return order
}

func (g *group) different(column string) int {
	seen := map[any]bool{}
	for _, r := range g.rows {
		seen[r[column]] = true
	}
	return len(seen)
}

// numbers of a column, those that are not NULL.
func (g *group) numbers(column string) *mean {
	m := &mean{}
	for _, r := range g.rows {
		switch v := r[column].(type) {
		case float64:
			m.add(v)
		case int:
			m.add(float64(v))
		case int64:
			m.add(float64(v))
		}
	}
	return m
}

func (g *group) whole(column string) int64 { return int64(g.numbers(column).sum) }

func (g *group) completed() (n int) {
	for _, r := range g.rows {
		if r["completed"] == true {
			n++
		}
	}
	return n
}

// engagement is how often an invited participant who was asked responded; nil where nobody was.
func (g *group) engagement() any {
	chances, responses := 0, 0
	for _, r := range g.rows {
		if n := r["invited"].(int) * r["questions"].(int); n > 0 {
			chances, responses = chances+n, responses+r["responses"].(int)
		}
	}
	if chances == 0 {
		return nil
	}
	return float64(responses) / float64(chances)
}

func (o *oracle) put(table string, g *group, more row) {
	for k, v := range g.key {
		more[k] = v
	}
	o.tables[table] = append(o.tables[table], more)
}

func (o *oracle) aggregates() {
	interactions := o.tables["fact_persona_interactions"]
	byDay := func(r row) row { return row{"date": r["day"], "project_id": r["project_id"]} }
	byWeek := func(r row) row { return row{"week": monday(r["day"].(string)), "project_id": r["project_id"]} }
	ofUsers := func(key func(row) row) func(row) row {
		return func(r row) row {
			if r["user_id"] == "" {
				return nil
			}
			return key(r)
		}
	}
	for _, g := range groupBy(interactions, byDay) {
		o.put("daily_active_personas", g, row{
			"active_personas": g.different("persona_id"), "total_interactions": len(g.rows), "avg_duration_seconds": g.numbers("duration_seconds").value(),
		})
	}
	for _, g := range groupBy(interactions, byWeek) {
		o.put("weekly_active_personas", g, row{"active_personas": g.different("persona_id"), "total_interactions": len(g.rows)})
	}
	for _, g := range groupBy(interactions, ofUsers(byDay)) {
		o.put("daily_active_users", g, row{"active_users": g.different("user_id"), "total_interactions": len(g.rows)})
	}
	for _, g := range groupBy(interactions, ofUsers(byWeek)) {
		o.put("weekly_active_users", g, row{"active_users": g.different("user_id"), "total_interactions": len(g.rows)})
	}
	byModel := func(r row) row { return row{"date": r["day"], "project_id": r["project_id"], "model": r["model"]} }
	for _, g := range groupBy(o.tables["fact_llm_usage"], byModel) {
		o.put("daily_llm_costs", g, row{
			"calls": len(g.rows), "tokens_in": g.whole("tokens_in"), "tokens_out": g.whole("tokens_out"), "cost": g.numbers("cost").sum,
		})
	}
	for _, g := range groupBy(o.tables["fact_focus_group_sessions"], byDay) {
		o.put("focus_group_effectiveness", g, effectivenessOf(g))
	}
	o.health()
	o.diversity()
	o.cohorts()
}

func effectivenessOf(g *group) row {
	r := row{
		"sessions": len(g.rows), "completed": g.completed(), "questions": g.whole("questions"), "responses": g.whole("responses"),
		"followups": g.whole("followups"), "responses_per_participant_question": g.engagement(), "words_per_response": nil,
		"on_question_share": g.numbers("on_question_share").value(), "lexical_variety": g.numbers("lexical_variety").value(),
		"seconds_per_question": g.numbers("seconds_per_question").value(),
	}
	words, quality := &mean{}, &mean{}
	for _, s := range g.rows {
		if per, ok := s["words_per_response"].(float64); ok {
			words.sum, words.n = words.sum+per*float64(s["responses"].(int)), words.n+float64(s["responses"].(int))
		}
	}
	if words.n > 0 {
		r["words_per_response"] = words.sum / words.n
		quality.add(math.Min(words.sum/words.n/40, 1))
	}
	for _, part := range []string{"on_question_share", "lexical_variety"} {
		if v, ok := r[part].(float64); ok {
			quality.add(v)
		}
	}
	r["response_quality"] = quality.value()
	return r
}

// health looks back 28 days from each day up to today on which that shows anything.
func (o *oracle) health() {
	const window = 28
	type place struct {
		project any
		day     string
	}
	sessions, active := map[place][]row{}, map[place]bool{}
	for _, s := range o.tables["fact_focus_group_sessions"] {
		at := place{s["project_id"], s["day"].(string)}
		sessions[at], active[at] = append(sessions[at], s), true
	}
	for _, r := range o.tables["fact_persona_interactions"] {
		active[place{r["project_id"], r["day"].(string)}] = true
	}
	scored := map[place]bool{}
	for at := range active {
		for ahead := range window {
			if d := date(at.day).AddDate(0, 0, ahead); !d.After(o.today) {
				scored[place{at.project, d.Format(time.DateOnly)}] = true
			}
		}
	}
	for at := range scored {
		g := &group{key: row{"date": at.day, "project_id": at.project}}
		last := -1
		for back := range window {
			before := place{at.project, date(at.day).AddDate(0, 0, -back).Format(time.DateOnly)}
			g.rows = append(g.rows, sessions[before]...)
			if active[before] && last < 0 {
				last = back
			}
		}
		recency := 1 - float64(last)/window
		r := row{"sessions": len(g.rows), "completion": nil, "engagement": nil, "last_active": date(at.day).AddDate(0, 0, -last).Format(time.DateOnly), "recency": recency}
		score := mean{recency, 1}
		if len(g.rows) > 0 {
			r["completion"] = float64(g.completed()) / float64(len(g.rows))
			score.add(r["completion"].(float64))
		}
		if engaged, ok := g.engagement().(float64); ok {
			r["engagement"] = math.Min(1, engaged)
			score.add(r["engagement"].(float64))
		}
		r["score"] = score.value()
		o.put("project_health_scores", g, r)
	}
}

func (o *oracle) diversity() {
	band := func(age int) string {
		for _, b := range []struct {
			below int
			name  string
		}{{18, "under 18"}, {25, "18-24"}, {35, "25-34"}, {45, "35-44"}, {55, "45-54"}, {65, "55-64"}} {
			if age < b.below {
				return b.name
			}
		}
		return "65 and over"
	}
	var traits []row
	for _, p := range o.tables["dim_personas"] {
		if p["placeholder"] == true {
			continue
		}
		values := row{"age_band": nil, "gender": p["gender"], "occupation": p["occupation"], "segment": p["segment_id"]}
		if age, ok := p["age"].(int); ok {
			values["age_band"] = band(age)
		}
		for attribute, value := range values {
			traits = append(traits, row{"project_id": p["project_id"], "attribute": attribute, "value": value})
		}
	}
	for _, all := range groupBy(traits, func(r row) row { return row{"project_id": r["project_id"], "attribute": r["attribute"]} }) {
		knownOf, values, entropy := 0.0, 0, 0.0
		parts := groupBy(all.rows, func(r row) row {
			value := r["value"]
			if value == nil {
				value = "(unknown)"
			} else {
				knownOf++
			}
			return row{"project_id": r["project_id"], "attribute": r["attribute"], "value": value}
		})
		for _, g := range parts {
			o.put("persona_diversity", g, row{"personas": len(g.rows), "share": float64(len(g.rows)) / float64(len(all.rows))})
			if g.rows[0]["value"] != nil {
				values++
				share := float64(len(g.rows)) / knownOf
				entropy -= share * math.Log(share)
			}
		}
		r := row{"personas": int(knownOf), "distinct_values": values, "evenness": nil}
		if values > 1 {
			r["evenness"] = entropy / math.Log(float64(values))
		}
		o.put("persona_evenness", all, r)
	}
}

// cohorts follows personas and users by the week in which they were first active, in each project and in all.
func (o *oracle) cohorts() {
	const weeks = 26
	type member struct{ project, kind, id string }
	active := map[member]map[string]bool{}
	for _, r := range o.tables["fact_persona_interactions"] {
		for _, project := range []string{r["project_id"].(string), "*"} {
			for kind, id := range map[string]any{"persona": r["persona_id"], "user": r["user_id"]} {
				if id == "" {
					continue
				}
				m := member{project, kind, id.(string)}
				if active[m] == nil {
					active[m] = map[string]bool{}
				}
				active[m][monday(r["day"].(string))] = true
			}
		}
	}
	type cohort struct{ project, kind, week string }
	members := map[cohort][]member{}
	for m, in := range active {
		for week := range in {
			o.tables["weekly_activity"] = append(o.tables["weekly_activity"], row{"week": week, "project_id": m.project, "member": m.kind, "member_id": m.id})
		}
		first := slices.Min(slices.Collect(maps.Keys(in)))
		members[cohort{m.project, m.kind, first}] = append(members[cohort{m.project, m.kind, first}], m)
		o.tables["cohort_members"] = append(o.tables["cohort_members"], row{"project_id": m.project, "member": m.kind, "member_id": m.id, "cohort_week": first})
	}
	for c, all := range members {
		for n := range weeks + 1 {
			week := date(c.week).AddDate(0, 0, 7*n)
			r := row{"project_id": c.project, "member": c.kind, "cohort_week": c.week, "week_n": n, "cohort_size": len(all), "active": nil, "retention": nil}
			if !week.AddDate(0, 0, 7).After(o.today) { // it has ended
				count := 0
				for _, m := range all {
					if active[m][week.Format(time.DateOnly)] {
						count++
					}
				}
				r["active"], r["retention"] = count, float64(count)/float64(len(all))
			}
			o.tables["weekly_retention_cohorts"] = append(o.tables["weekly_retention_cohorts"], r)
		}
	}
}
