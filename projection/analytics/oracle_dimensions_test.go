package analytics_test

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// dimensions folds what events say of users, projects and personas.
func (o *oracle) dimensions(events []eventstore.Recorded) {
	users, projects, personas := map[string]row{}, map[string]row{}, map[string]row{}
	said := func(of map[string]row, key, id string, e eventstore.Recorded, listed bool, what row) {
		if id == "" {
			return
		}
		o.history(key, id, e, listed, what)
		r := of[id]
		if r == nil {
			r = row{key: id, "created_at": e.OccurredAt}
			of[id] = r
		}
		maps.Copy(r, what)
		for _, dimension := range []string{"dim_users", "dim_projects"} {
			if other, ok := what[keyOf(dimension)].(string); ok {
				o.referred[dimension][other] = true
			}
		}
		r["updated_at"], r["position"], r["listed"], r["placeholder"] = e.OccurredAt, int64(e.Position), listed, false
	}
	for _, e := range events {
		switch d := e.Data.(type) {
		case focusgroup.UserRegistered:
			said(users, "user_id", d.UserID, e, false, row{"name": known(d.Name), "company": known(d.Company), "country": known(d.Country)})
		case focusgroup.ProjectCreated:
			said(projects, "project_id", d.ProjectID, e, false, row{"name": known(d.Name), "user_id": d.UserID, "industry": known(d.Industry)})
		case focusgroup.PersonaCreated:
			said(personas, "persona_id", d.PersonaID, e, false, o.persona(e, d.ProjectID, d.UserID, d.Name, d.Attributes))
		case focusgroup.PersonaEdited:
			said(personas, "persona_id", d.PersonaID, e, false, o.persona(e, d.ProjectID, d.UserID, d.Name, d.Attributes))
		case focusgroup.DiscussionStarted:
			for _, p := range d.Participants {
				if before := personas[p.PersonaID]; before != nil && before["listed"] == false {
					continue // its own events count
				}
				said(personas, "persona_id", p.PersonaID, e, true, o.persona(e, d.ProjectID, d.UserID, p.Name, p.Attributes))
			}
		}
	}
	for table, members := range map[string]map[string]row{"dim_users": users, "dim_projects": projects, "dim_personas": personas} {
		o.tables[table] = slices.Collect(maps.Values(members))
	}
}

func (o *oracle) persona(e eventstore.Recorded, project, user, name string, a focusgroup.Attributes) row {
	if project == "" {
		project = o.project[e.StreamID]
	}
	return row{
		"project_id": project, "user_id": user, "name": known(name), "age": known(a.Age), "gender": known(a.Gender), "occupation": known(a.Occupation),
		"segment_id": known(a.SegmentID), "region": known(a.Region), "language": known(a.Language),
	}
}

// history closes a member's last state and adds one. Of what one event says twice the last counts.
func (o *oracle) history(key, id string, e eventstore.Recorded, listed bool, what row) {
	table := "dim_" + strings.TrimSuffix(key, "_id") + "_history"
	r := maps.Clone(what)
	r[key], r["from_position"], r["to_position"], r["listed"] = id, int64(e.Position), int64(math.MaxInt64), listed
	r["valid_from"], r["valid_to"] = e.OccurredAt, nil
	for i, before := range o.tables[table] {
		if before[key] != id || before["to_position"] != int64(math.MaxInt64) {
			continue
		}
		if before["from_position"] == int64(e.Position) {
			o.tables[table][i] = r
			return
		}
		before["to_position"], before["valid_to"] = int64(e.Position), e.OccurredAt
	}
	o.tables[table] = append(o.tables[table], r)
}

// placeholders are the members that facts and dimensions refer to, and of which nothing else is known.
func (o *oracle) placeholders() {
	referred := o.referred
	for table, rows := range o.tables {
		if strings.HasSuffix(table, "_history") {
			continue
		}
		for _, r := range rows {
			for dimension, ids := range referred {
				if id, ok := r[keyOf(dimension)].(string); ok {
					ids[id] = true
				}
			}
		}
	}
	for dimension, ids := range referred {
		key := keyOf(dimension)
		for _, r := range o.tables[dimension] {
			delete(ids, r[key].(string))
		}
		for id := range ids {
			r := row{key: id, "created_at": nil, "updated_at": nil, "position": 0, "listed": false, "placeholder": true, "name": nil}
			switch dimension {
			case "dim_users":
				maps.Copy(r, row{"company": nil, "country": nil})
			case "dim_projects":
				maps.Copy(r, row{"user_id": "", "industry": nil})
			default:
				maps.Copy(r, row{"project_id": "", "user_id": "", "age": nil, "gender": nil, "occupation": nil, "segment_id": nil, "region": nil, "language": nil})
			}
			o.tables[dimension] = append(o.tables[dimension], r)
		}
	}
}

func keyOf(dimension string) string {
	return strings.TrimSuffix(strings.TrimPrefix(dimension, "dim_"), "s") + "_id"
}

// dates are the days of all years that facts lie in, whatever the time zone.
func (o *oracle) dates() {
	years := map[int]bool{}
	for table, rows := range o.tables {
		if !strings.HasPrefix(table, "fact_") {
			continue
		}
		for _, r := range rows {
			at := r["timestamp"].(time.Time)
			years[at.Add(-24*time.Hour).Year()], years[at.Add(24*time.Hour).Year()] = true, true
		}
	}
	for year := range years {
		for d := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC); d.Year() == year; d = d.AddDate(0, 0, 1) {
			iso := (int(d.Weekday())+6)%7 + 1
			o.tables["dim_date"] = append(o.tables["dim_date"], row{
				"day": d.Format(time.DateOnly), "year": year, "quarter": (int(d.Month()) + 2) / 3, "month": d.Format("2006-01") + "-01",
				"week": monday(d.Format(time.DateOnly)), "weekday": iso, "is_weekend": iso > 5,
			})
		}
	}
}

func monday(day string) string {
	d := date(day)
	return d.AddDate(0, 0, -(int(d.Weekday())+6)%7).Format(time.DateOnly)
}

func date(day string) time.Time {
	d, err := time.Parse(time.DateOnly, day)
	if err != nil {
		panic(err)
	}
	return d
}
