package analytics_test

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// row is a row of a table, as JSON has it.
type row = map[string]any

// oracle computes the whole star from the log, in plain Go, without a line of the package: all at once, and nothing by parts.
type oracle struct {
	zone    *time.Location
	today   time.Time
	project map[eventstore.StreamID]string
	// referred are ids of members, by dimension.
	referred map[string]map[string]bool
	tables   map[string][]row
}

// foretell computes what the star's tables hold, without some events.
func foretell(t testing.TB, log *eventstoretest.Log, zone, today string, without ...eventstore.Position) map[string][]row {
	t.Helper()
	location, err := time.LoadLocation(zone)
	require.NoError(t, err)
	day, err := time.Parse(time.DateOnly, today)
	require.NoError(t, err)
	o := &oracle{zone: location, today: day, project: map[eventstore.StreamID]string{}, tables: map[string][]row{}}
	o.referred = map[string]map[string]bool{"dim_users": {"": true}, "dim_projects": {"": true}, "dim_personas": {"": true}}
	rows, err := log.Pool.Query(t.Context(), `SELECT stream_id, coalesce(project_id, '') FROM `+log.Schema()+`.streams`)
	require.NoError(t, err)
	type stream struct{ ID, Project string }
	streams, err := pgx.CollectRows(rows, pgx.RowToStructByPos[stream])
	require.NoError(t, err)
	for _, s := range streams {
		o.project[eventstore.StreamID(s.ID)] = s.Project
	}
	events := slices.DeleteFunc(eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{})), func(e eventstore.Recorded) bool {
		return slices.Contains(without, e.Position)
	})
	for _, e := range events {
		o.facts(e)
	}
	o.sessions(events)
	o.dimensions(events)
	o.placeholders()
	o.dates()
	o.aggregates()
	return o.tables
}

func (o *oracle) add(table string, e eventstore.Recorded, project string, more row) {
	if project == "" {
		project = o.project[e.StreamID]
	}
	r := row{"position": int64(e.Position), "timestamp": e.OccurredAt, "day": o.day(e.OccurredAt), "project_id": project}
	maps.Copy(r, more)
	o.tables[table] = append(o.tables[table], r)
}

func (o *oracle) day(at time.Time) string { return at.In(o.zone).Format(time.DateOnly) }

func (o *oracle) facts(e eventstore.Recorded) {
	switch d := e.Data.(type) {
	case focusgroup.PersonaCreated:
		o.interaction(e, d.ProjectID, d.PersonaID, d.UserID, "created", d.DurationSeconds)
		o.usage(e, d.ProjectID, d.PersonaID, d.UserID, d.Usage)
	case focusgroup.PersonaEdited:
		o.interaction(e, d.ProjectID, d.PersonaID, d.UserID, "edited", d.DurationSeconds)
		o.usage(e, d.ProjectID, d.PersonaID, d.UserID, d.Usage)
	case focusgroup.SurveyCompleted:
		o.interaction(e, d.ProjectID, d.PersonaID, d.UserID, "surveyed", d.DurationSeconds)
		o.usage(e, d.ProjectID, d.PersonaID, d.UserID, d.Usage)
		o.answers(e, d)
	case focusgroup.Response:
		o.turn(e, focusgroup.Turn(d))
	case focusgroup.Followup:
		o.turn(e, focusgroup.Turn(d))
	case focusgroup.DiscussionEnded:
		o.usage(e, d.ProjectID, "", d.UserID, d.Usage)
	}
}

func (o *oracle) interaction(e eventstore.Recorded, project, persona, user, kind string, seconds float64) {
	if persona == "" {
		return
	}
	o.add("fact_persona_interactions", e, project, row{
		"persona_id": persona, "user_id": user, "interaction_type": kind, "duration_seconds": known(seconds),
		"metadata": map[string]any{"event_type": e.Type, "stream_id": string(e.StreamID)},
	})
}

func (o *oracle) usage(e eventstore.Recorded, project, persona, user string, u focusgroup.Usage) {
	if u.Model == "" && u.TokensIn == 0 && u.TokensOut == 0 && u.CostUSD == 0 {
		return
	}
	o.add("fact_llm_usage", e, project, row{
		"persona_id": persona, "user_id": user, "model": u.Model, "tokens_in": u.TokensIn, "tokens_out": u.TokensOut, "cost": u.CostUSD, "purpose": e.Type,
	})
}

func (o *oracle) turn(e eventstore.Recorded, d focusgroup.Turn) {
	o.interaction(e, d.ProjectID, d.PersonaID, d.UserID, "discussed", d.DurationSeconds)
	o.usage(e, d.ProjectID, d.PersonaID, d.UserID, d.Usage)
	words := strings.Fields(d.Text)
	distinct := map[string]bool{}
	for _, w := range words {
		distinct[strings.ToLower(w)] = true
	}
	speaker := d.PersonaName
	if speaker == "" {
		speaker = d.PersonaID
	}
	moderates := d.Role == "moderator"
	r := row{
		"discussion_id": string(e.StreamID), "persona_id": d.PersonaID, "user_id": d.UserID, "speaker": speaker, "is_moderator": moderates,
		"kind": e.Type, "question": known(d.Question), "on_question": nil, "words": len(words), "distinct_words": len(distinct),
		"characters": utf8.RuneCountInString(d.Text), "duration_seconds": known(d.DurationSeconds),
	}
	if d.Question != "" && !moderates {
		r["on_question"] = e.Type == "response"
	}
	o.add("fact_discussion_turns", e, d.ProjectID, r)
}

func (o *oracle) answers(e eventstore.Recorded, d focusgroup.SurveyCompleted) {
	for i, a := range d.Answers {
		r := row{
			"line": i + 1, "survey_id": d.SurveyID, "persona_id": d.PersonaID, "user_id": d.UserID, "question": a.Question, "question_type": string(a.Type),
			"choices": nil, "rating": nil, "scale_max": nil, "text": nil, "words": nil,
		}
		switch a.Type {
		case "single_choice", "multiple_choice":
			chosen := []any{}
			for _, c := range a.Choices {
				chosen = append(chosen, c)
			}
			r["choices"] = chosen
		case "rating":
			r["scale_max"] = known(a.ScaleMax)
			if a.Rating != nil {
				r["rating"] = *a.Rating
			}
		case "open_text":
			r["text"], r["words"] = a.Text, len(strings.Fields(a.Text))
		}
		o.add("fact_survey_answers", e, d.ProjectID, r)
	}
}

// known is nil for a zero value.
func known[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

// sessions folds each discussion by itself: what follows a start belongs to it, until the next one; turns before the first
// start belong to that, ends before it to none.
func (o *oracle) sessions(events []eventstore.Recorded) {
	streams := map[eventstore.StreamID][]eventstore.Recorded{}
	for _, e := range events {
		streams[e.StreamID] = append(streams[e.StreamID], e)
	}
	for _, id := range slices.Sorted(maps.Keys(streams)) {
		var s, early *session
		into := func() *session {
			if s != nil {
				return s
			}
			early = cmp.Or(early, &session{})
			return early
		}
		for _, e := range streams[id] {
			switch d := e.Data.(type) {
			case focusgroup.DiscussionStarted:
				o.close(s)
				if s = (&session{start: e, DiscussionStarted: d}); early != nil {
					s.turns, s.kinds, early = early.turns, early.kinds, nil
				}
			case focusgroup.Response:
				into().say(focusgroup.Turn(d), e.Type)
			case focusgroup.Followup:
				into().say(focusgroup.Turn(d), e.Type)
			case focusgroup.DiscussionEnded:
				if s != nil {
					s.end, s.ended = &e, d
				}
			}
		}
		o.close(s)
	}
}

type session struct {
	focusgroup.DiscussionStarted
	start eventstore.Recorded
	turns []focusgroup.Turn
	kinds []string
	end   *eventstore.Recorded
	ended focusgroup.DiscussionEnded
}

func (s *session) say(turn focusgroup.Turn, kind string) {
	s.turns, s.kinds = append(s.turns, turn), append(s.kinds, kind)
}

func (o *oracle) close(s *session) {
	if s == nil {
		return
	}
	invited := 0
	for _, p := range s.Participants {
		if p.Role != "moderator" {
			invited++
		}
	}
	r := row{
		"discussion_id": string(s.start.StreamID), "user_id": s.UserID, "moderator_id": known(s.ModeratorID), "title": known(s.Title),
		"language": known(s.Language), "invited": invited, "planned_questions": len(s.Questions),
		"completed": false, "ended_at": nil, "end_reason": nil, "duration_seconds": nil,
	}
	maps.Copy(r, s.sums())
	if s.end != nil {
		r["completed"] = s.ended.Reason == "" || s.ended.Reason == "completed"
		r["ended_at"], r["end_reason"] = s.end.OccurredAt, known(s.ended.Reason)
		r["duration_seconds"] = s.ended.DurationSeconds
		if s.ended.DurationSeconds == 0 {
			r["duration_seconds"] = s.end.OccurredAt.Sub(s.start.OccurredAt).Seconds()
		}
	}
	o.add("fact_focus_group_sessions", s.start, s.ProjectID, r)
}

func (s *session) sums() row {
	questions, speakers := map[string]bool{}, map[string]bool{}
	var responses, followups, words int
	var perResponse, onQuestion, variety, spoken, onQuestions mean
	for i, t := range s.turns {
		n := len(strings.Fields(t.Text))
		moderates := t.Role == "moderator"
		if t.Question != "" {
			questions[t.Question] = true
		}
		if s.kinds[i] == "followup" {
			followups++
		}
		if t.DurationSeconds != 0 {
			spoken.add(t.DurationSeconds)
			if t.Question != "" {
				onQuestions.add(t.DurationSeconds)
			}
		}
		if moderates {
			continue
		}
		words += n
		if t.PersonaID != "" {
			speakers[t.PersonaID] = true
		}
		if s.kinds[i] == "response" {
			responses++
			perResponse.add(float64(n))
		}
		if t.Question != "" {
			onQuestion.add(map[string]float64{"response": 1, "followup": 0}[s.kinds[i]])
		}
		if n > 0 {
			distinct := map[string]bool{}
			for _, w := range strings.Fields(strings.ToLower(t.Text)) {
				distinct[w] = true
			}
			variety.add(float64(len(distinct)) / float64(n))
		}
	}
	r := row{
		"questions": len(questions), "responses": responses, "followups": followups, "participants": len(speakers), "words": words,
		"words_per_response": perResponse.value(), "on_question_share": onQuestion.value(), "lexical_variety": variety.value(),
		"spoken_seconds": spoken.total(), "seconds_per_question": nil,
	}
	if onQuestions.n > 0 {
		r["seconds_per_question"] = onQuestions.sum / float64(len(questions))
	}
	return r
}

// mean of what was added; nil of nothing.
type mean struct{ sum, n float64 }

func (m *mean) add(v float64) { m.sum, m.n = m.sum+v, m.n+1 }

func (m *mean) value() any {
	if m.n == 0 {
		return nil
	}
	return m.sum / m.n
}

func (m *mean) total() any {
	if m.n == 0 {
		return nil
	}
	return m.sum
}
