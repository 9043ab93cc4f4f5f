package analytics

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// Names of the facts that every star has.
const (
	FactInteractions = "fact_persona_interactions"
	FactUsage        = "fact_llm_usage"
	FactTurns        = "fact_discussion_turns"
	FactAnswers      = "fact_survey_answers"
	FactSessions     = "fact_focus_group_sessions"
)

// builtin declares the facts of the vocabulary. That of sessions is made of the turns': see sessions.go.
func builtin(interactionType string) []Fact {
	return []Fact{interactions(interactionType), usage(), turns(), answers()}
}

func interactions(interactionType string) Fact {
	return Fact{
		Name:  FactInteractions,
		Grain: "A row each time a persona was created, edited, spoke in a discussion, or answered a survey.",
		Types: []string{
			focusgroup.TypePersonaCreated, focusgroup.TypePersonaEdited, focusgroup.TypeResponse, focusgroup.TypeFollowup, focusgroup.TypeSurveyCompleted,
		},
		Columns: []Column{
			{Name: "persona_id", Of: Personas, Comment: "The persona.", Index: true},
			{Name: "user_id", Of: Users, Comment: "For whom: who runs the discussion or the survey, or made the change."},
			{Name: "interaction_type", Type: interactionType + " NOT NULL", Comment: "created, edited, discussed or surveyed."},
			durationColumn("Seconds it took, as the event says; NULL where unknown or 0."),
			{Name: "metadata", Type: "jsonb NOT NULL DEFAULT '{}'", Comment: "The event's type and stream."},
		},
		Rows: func(e eventstore.Recorded) ([]Row, error) {
			row := func(project, persona, user, kind string, seconds float64) ([]Row, error) {
				if persona == "" { // a moderator who is no persona
					return nil, nil
				}
				metadata, err := json.Marshal(map[string]string{"event_type": e.Type, "stream_id": string(e.StreamID)})
				return []Row{{project, []any{persona, user, kind, orNullSeconds(seconds), string(metadata)}}}, err
			}
			switch d := e.Data.(type) {
			case focusgroup.PersonaCreated:
				return row(d.ProjectID, d.PersonaID, d.UserID, "created", d.DurationSeconds)
			case focusgroup.PersonaEdited:
				return row(d.ProjectID, d.PersonaID, d.UserID, "edited", d.DurationSeconds)
			case focusgroup.SurveyCompleted:
				return row(d.ProjectID, d.PersonaID, d.UserID, "surveyed", d.DurationSeconds)
			}
			if turn, ok := turnOf(e); ok {
				return row(turn.ProjectID, turn.PersonaID, turn.UserID, "discussed", turn.DurationSeconds)
			}
			return nil, unexpected(e)
		},
	}
}

func usage() Fact {
	return Fact{
		Name:  FactUsage,
		Grain: "A row each time a language model was paid for.",
		Types: []string{
			focusgroup.TypePersonaCreated, focusgroup.TypePersonaEdited, focusgroup.TypeResponse, focusgroup.TypeFollowup,
			focusgroup.TypeSurveyCompleted, focusgroup.TypeDiscussionEnded,
		},
		Columns: []Column{
			{Name: "persona_id", Of: Personas, Comment: "The persona it was for; '' for none."},
			{Name: "user_id", Of: Users, Comment: "Who caused it."},
			{Name: "model", Type: `text COLLATE "C" NOT NULL DEFAULT ''`, Comment: "Name of the model; '' where unknown.", Index: true},
			{Name: "tokens_in", Type: "bigint NOT NULL CHECK (tokens_in BETWEEN 0 AND 1e12)", Comment: "Tokens of the prompt."},
			{Name: "tokens_out", Type: "bigint NOT NULL CHECK (tokens_out BETWEEN 0 AND 1e12)", Comment: "Tokens of the answer."},
			{Name: "cost", Type: "double precision NOT NULL CHECK (cost BETWEEN 0 AND 1e12)", Comment: "US dollars."},
			{Name: "purpose", Type: "text NOT NULL", Comment: "The event's type."},
		},
		Rows: func(e eventstore.Recorded) ([]Row, error) {
			row := func(project, persona, user string, u focusgroup.Usage) ([]Row, error) {
				if u == (focusgroup.Usage{}) {
					return nil, nil
				}
				return []Row{{project, []any{persona, user, u.Model, u.TokensIn, u.TokensOut, u.CostUSD, e.Type}}}, nil
			}
			switch d := e.Data.(type) {
			case focusgroup.PersonaCreated:
				return row(d.ProjectID, d.PersonaID, d.UserID, d.Usage)
			case focusgroup.PersonaEdited:
				return row(d.ProjectID, d.PersonaID, d.UserID, d.Usage)
			case focusgroup.SurveyCompleted:
				return row(d.ProjectID, d.PersonaID, d.UserID, d.Usage)
			case focusgroup.DiscussionEnded:
				return row(d.ProjectID, "", d.UserID, d.Usage)
			}
			if turn, ok := turnOf(e); ok {
				return row(turn.ProjectID, turn.PersonaID, turn.UserID, turn.Usage)
			}
			return nil, unexpected(e)
		},
	}
}

func turns() Fact {
	return Fact{
		Name:  FactTurns,
		Grain: "A row a turn of a discussion, the moderator's too.",
		Types: []string{focusgroup.TypeResponse, focusgroup.TypeFollowup},
		Columns: []Column{
			{Name: "discussion_id", Type: `text COLLATE "C" NOT NULL`, Comment: "Stream of the discussion.", Index: true},
			{Name: "persona_id", Of: Personas, Comment: "Who speaks; '' for a moderator who is no persona."},
			{Name: "user_id", Of: Users, Comment: "Who runs the discussion."},
			{Name: "speaker", Type: "text NOT NULL", Comment: "The speaker's name, or their persona where it is unknown."},
			{Name: "is_moderator", Type: "boolean NOT NULL", Comment: "The moderator speaks."},
			{Name: "kind", Type: "text NOT NULL CHECK (kind IN ('response', 'followup'))", Comment: "response: an answer to the open question; followup: any further turn on it."},
			{Name: "question", Type: "text", Comment: "The open question; NULL for none."},
			{Name: "on_question", Type: "boolean", Comment: "The turn answers the open question; NULL where none is known, and for a moderator."},
			{Name: "words", Type: "integer NOT NULL", Comment: "Words, parted by white space."},
			{Name: "distinct_words", Type: "integer NOT NULL", Comment: "Different words, upper and lower case alike."},
			{Name: "characters", Type: "integer NOT NULL", Comment: "Length of the text in characters."},
			durationColumn("Seconds it took, as the event says; NULL where unknown or 0."),
		},
		Rows: func(e eventstore.Recorded) ([]Row, error) {
			turn, ok := turnOf(e)
			if !ok {
				return nil, unexpected(e)
			}
			words := strings.Fields(turn.Text)
			distinct := map[string]bool{}
			for _, word := range words {
				distinct[strings.ToLower(word)] = true
			}
			speaker, moderates := turn.PersonaName, turn.Role == focusgroup.RoleModerator
			if speaker == "" {
				speaker = turn.PersonaID
			}
			var onQuestion any
			if turn.Question != "" && !moderates {
				onQuestion = e.Type == focusgroup.TypeResponse
			}
			return []Row{{turn.ProjectID, []any{
				string(e.StreamID), turn.PersonaID, turn.UserID, speaker, moderates, e.Type, orNull(turn.Question), onQuestion,
				len(words), len(distinct), utf8.RuneCountInString(turn.Text), orNullSeconds(turn.DurationSeconds),
			}}}, nil
		},
	}
}

func answers() Fact {
	return Fact{
		Name:  FactAnswers,
		Grain: "A row an answer to a survey's question.",
		Types: []string{focusgroup.TypeSurveyCompleted},
		Lines: true,
		Columns: []Column{
			{Name: "survey_id", Type: `text COLLATE "C" NOT NULL`, Comment: "The survey.", Index: true},
			{Name: "persona_id", Of: Personas, Comment: "Who answers."},
			{Name: "user_id", Of: Users, Comment: "Whose survey it is."},
			{Name: "question", Type: "text NOT NULL", Comment: "The question."},
			{
				Name: "question_type", Type: "text NOT NULL CHECK (question_type IN ('single_choice', 'multiple_choice', 'rating', 'open_text'))",
				Comment: "single_choice, multiple_choice, rating or open_text: which of the next columns is filled.",
			},
			{Name: "choices", Type: "text[]", Comment: "What was chosen: one of a single_choice, any number of a multiple_choice."},
			{Name: "rating", Type: "double precision", Comment: "The rating, from 0 to scale_max."},
			{Name: "scale_max", Type: "double precision", Comment: "The best rating; NULL where unknown."},
			{Name: "text", Type: "text", Comment: "The words of an open_text."},
			{Name: "words", Type: "integer", Comment: "Words of an open_text, parted by white space."},
		},
		Rows: func(e eventstore.Recorded) ([]Row, error) {
			survey, ok := e.Data.(focusgroup.SurveyCompleted)
			if !ok {
				return nil, unexpected(e)
			}
			rows := make([]Row, len(survey.Answers))
			for i, a := range survey.Answers {
				var choices, rating, scale, text, words any
				switch a.Type {
				case focusgroup.SingleChoice, focusgroup.MultipleChoice:
					choices = append([]string{}, a.Choices...)
				case focusgroup.Rating:
					if a.Rating != nil {
						rating = *a.Rating
					}
					if a.ScaleMax != 0 {
						scale = a.ScaleMax
					}
				case focusgroup.OpenText:
					text, words = a.Text, len(strings.Fields(a.Text))
				}
				rows[i] = Row{survey.ProjectID, []any{survey.SurveyID, survey.PersonaID, survey.UserID, a.Question, string(a.Type), choices, rating, scale, text, words}}
			}
			return rows, nil
		},
	}
}

// unexpected refuses data that the codec of the vocabulary has not made, of types (none: whatever it is): it would pass for an
// event that says nothing.
func unexpected(e eventstore.Recorded, types ...string) error {
	if len(types) > 0 && !slices.Contains(types, e.Type) {
		return nil
	}
	return fmt.Errorf("the data of a %s is %T: the store's codec does not know the vocabulary", e.Type, e.Data)
}

// durationColumn refuses what is no duration at all: its event is parked, where a mean that overflows would fail each refresh.
func durationColumn(comment string) Column {
	return Column{Name: "duration_seconds", Type: "double precision CHECK (abs(duration_seconds) <= 1e10)", Comment: comment}
}

func turnOf(e eventstore.Recorded) (focusgroup.Turn, bool) {
	switch d := e.Data.(type) {
	case focusgroup.Response:
		return focusgroup.Turn(d), true
	case focusgroup.Followup:
		return focusgroup.Turn(d), true
	}
	return focusgroup.Turn{}, false
}

func orNullSeconds(seconds float64) any {
	if seconds == 0 {
		return nil
	}
	return seconds
}
