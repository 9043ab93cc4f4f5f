package focusgroup

import (
	"fmt"

	"github.com/sight-platform/hindsight/eventstore"
)

// Names of the event types.
const (
	TypeDiscussionStarted = "discussion_started"
	TypeResponse          = "response"
	TypeFollowup          = "followup"
	TypeDiscussionEnded   = "discussion_ended"
	TypeUserRegistered    = "user_registered"
	TypeProjectCreated    = "project_created"
	TypePersonaCreated    = "persona_created"
	TypePersonaEdited     = "persona_edited"
	TypeSurveyCompleted   = "survey_completed"
)

// Types declares the vocabulary. A service with event types of its own appends them to these for [eventstore.NewCodec].
func Types() []eventstore.EventType {
	return []eventstore.EventType{
		eventstore.Type[DiscussionStarted](TypeDiscussionStarted),
		eventstore.Type[Response](TypeResponse),
		eventstore.Type[Followup](TypeFollowup),
		eventstore.Type[DiscussionEnded](TypeDiscussionEnded),
		eventstore.Type[UserRegistered](TypeUserRegistered),
		eventstore.Type[ProjectCreated](TypeProjectCreated),
		eventstore.Type[PersonaCreated](TypePersonaCreated),
		eventstore.Type[PersonaEdited](TypePersonaEdited),
		eventstore.Type[SurveyCompleted](TypeSurveyCompleted),
	}
}

// Codec is a codec of the vocabulary alone.
func Codec() *eventstore.Codec {
	codec, err := eventstore.NewCodec(Types()...)
	if err != nil {
		panic(err) // a mistake in Types, which a test would show
	}
	return codec
}

// NewDiscussionID makes the id of a new discussion's stream.
func NewDiscussionID() eventstore.StreamID { return eventstore.NewStreamID("discussion") }

// PersonaStream names a persona's stream.
func PersonaStream(personaID string) eventstore.StreamID {
	return eventstore.StreamID("persona-" + personaID)
}

// ProjectStream names a project's stream.
func ProjectStream(projectID string) eventstore.StreamID {
	return eventstore.StreamID("project-" + projectID)
}

// UserStream names a user's stream.
func UserStream(userID string) eventstore.StreamID { return eventstore.StreamID("user-" + userID) }

// SurveyStream names a survey's stream.
func SurveyStream(surveyID string) eventstore.StreamID {
	return eventstore.StreamID("survey-" + surveyID)
}

// Usage is what a language model was paid for. Zero values are unknown or none.
type Usage struct {
	Model     string  `json:"model,omitempty"`
	TokensIn  int64   `json:"tokens_in,omitempty"`
	TokensOut int64   `json:"tokens_out,omitempty"`
	CostUSD   float64 `json:"cost_usd,omitempty"` // US dollars
}

func (u *Usage) add(other Usage) {
	u.TokensIn += other.TokensIn
	u.TokensOut += other.TokensOut
	u.CostUSD += other.CostUSD
}

// Attributes describe a persona. Zero values are unknown.
type Attributes struct {
	Age        int    `json:"age,omitempty"` // years
	Gender     string `json:"gender,omitempty"`
	Occupation string `json:"occupation,omitempty"`
	SegmentID  string `json:"segment_id,omitempty"`
	Region     string `json:"region,omitempty"`
	Language   string `json:"native_language,omitempty"`
}

// Role is a speaker's part in a discussion.
type Role string

// The roles.
const (
	RoleModerator   Role = "moderator"
	RoleParticipant Role = "participant"
)

// Participant is someone invited to a discussion.
type Participant struct {
	PersonaID string `json:"persona_id"`
	Name      string `json:"name"`
	Role      Role   `json:"role,omitempty"` // Empty is a participant.
	Attributes
}

// DiscussionStarted begins a discussion.
type DiscussionStarted struct {
	ProjectID    string        `json:"project_id,omitempty"`
	UserID       string        `json:"user_id,omitempty"` // who runs it
	ModeratorID  string        `json:"moderator_id,omitempty"`
	Title        string        `json:"title,omitempty"`
	Language     string        `json:"language,omitempty"` // BCP 47: "en", "pl"
	Participants []Participant `json:"participants,omitempty"`
	Questions    []string      `json:"questions,omitempty"` // the guide: what the moderator means to ask, in order
}

// StreamProject implements [eventstore.ProjectScoped].
func (e DiscussionStarted) StreamProject() string { return e.ProjectID }

// Turn is what [Response] and [Followup] hold: one speaker's words, with the whole context they were said in.
type Turn struct {
	ProjectID       string             `json:"project_id,omitempty"`
	UserID          string             `json:"user_id,omitempty"`
	ModeratorID     string             `json:"moderator_id,omitempty"`
	PersonaID       string             `json:"persona_id,omitempty"` // who speaks; a moderator that is no persona leaves it empty
	PersonaName     string             `json:"persona_name,omitempty"`
	Role            Role               `json:"role,omitempty"`     // Empty is a participant.
	Question        string             `json:"question,omitempty"` // the moderator's question that is open
	Text            string             `json:"text"`
	Language        string             `json:"language,omitempty"`         // BCP 47
	DurationSeconds float64            `json:"duration_seconds,omitempty"` // how long the turn took; 0 is unknown
	ReplyTo         eventstore.Version `json:"reply_to,omitempty"`         // the version in this stream that it answers; 0 is unknown
	Usage
}

// Response is a participant's answer to the open question.
type Response Turn

// StreamProject implements [eventstore.ProjectScoped].
func (e Response) StreamProject() string { return e.ProjectID }

// Followup is any further turn on the open question: the moderator asks on, participants discuss.
type Followup Turn

// StreamProject implements [eventstore.ProjectScoped].
func (e Followup) StreamProject() string { return e.ProjectID }

// DiscussionEnded ends a discussion.
type DiscussionEnded struct {
	ProjectID       string  `json:"project_id,omitempty"`
	UserID          string  `json:"user_id,omitempty"`
	Reason          string  `json:"reason,omitempty"` // "completed", "cancelled" …
	Summary         string  `json:"summary,omitempty"`
	DurationSeconds float64 `json:"duration_seconds,omitempty"` // of the whole discussion; 0 is unknown
	Usage                   // beyond that of the turns: summaries, analysis
}

// StreamProject implements [eventstore.ProjectScoped].
func (e DiscussionEnded) StreamProject() string { return e.ProjectID }

// UserRegistered introduces a user of the platform.
type UserRegistered struct {
	UserID  string `json:"user_id"`
	Name    string `json:"name,omitempty"`
	Email   string `json:"email,omitempty"`
	Company string `json:"company,omitempty"`
	Country string `json:"country,omitempty"` // ISO 3166-1 alpha-2
}

// ProjectCreated introduces a project.
type ProjectCreated struct {
	ProjectID   string `json:"project_id"`
	UserID      string `json:"user_id,omitempty"` // its owner
	Name        string `json:"name,omitempty"`
	Description string `json:"description,omitempty"`
	Industry    string `json:"industry,omitempty"`
}

// StreamProject implements [eventstore.ProjectScoped].
func (e ProjectCreated) StreamProject() string { return e.ProjectID }

// PersonaCreated introduces a persona.
type PersonaCreated struct {
	PersonaID       string  `json:"persona_id"`
	ProjectID       string  `json:"project_id,omitempty"`
	UserID          string  `json:"user_id,omitempty"`
	Name            string  `json:"name"`
	Description     string  `json:"description,omitempty"`
	DurationSeconds float64 `json:"duration_seconds,omitempty"` // that the user took; 0 is unknown
	Attributes
	Usage
}

// StreamProject implements [eventstore.ProjectScoped].
func (e PersonaCreated) StreamProject() string { return e.ProjectID }

// PersonaEdited carries the whole persona as it is after the edit.
type PersonaEdited struct {
	PersonaID       string   `json:"persona_id"`
	ProjectID       string   `json:"project_id,omitempty"`
	UserID          string   `json:"user_id,omitempty"`
	Name            string   `json:"name"`
	Description     string   `json:"description,omitempty"`
	Changed         []string `json:"changed,omitempty"`          // names of the fields that the edit touched
	DurationSeconds float64  `json:"duration_seconds,omitempty"` // that the user took; 0 is unknown
	Attributes
	Usage
}

// StreamProject implements [eventstore.ProjectScoped].
func (e PersonaEdited) StreamProject() string { return e.ProjectID }

// SurveyCompleted is one persona's answers to a survey.
type SurveyCompleted struct {
	SurveyID        string         `json:"survey_id"`
	ProjectID       string         `json:"project_id,omitempty"`
	UserID          string         `json:"user_id,omitempty"`
	PersonaID       string         `json:"persona_id"`
	Title           string         `json:"title,omitempty"`
	Language        string         `json:"language,omitempty"`         // BCP 47
	DurationSeconds float64        `json:"duration_seconds,omitempty"` // 0 is unknown
	Answers         []SurveyAnswer `json:"answers"`
	Usage
}

// StreamProject implements [eventstore.ProjectScoped].
func (e SurveyCompleted) StreamProject() string { return e.ProjectID }

// SurveyAnswer answers one question. Which fields are set depends on the question's type.
type SurveyAnswer struct {
	Question string       `json:"question"`
	Type     QuestionType `json:"type"`
	Choices  []string     `json:"choices,omitempty"` // single_choice: one; multiple_choice: any number
	Rating   *float64     `json:"rating,omitempty"`  // rating
	ScaleMax float64      `json:"scale_max,omitempty"`
	Text     string       `json:"text,omitempty"` // open_text
}

// QuestionType is the type of a survey question; any other text than the four is refused when written and when read.
type QuestionType string

// The question types.
const (
	SingleChoice   QuestionType = "single_choice"
	MultipleChoice QuestionType = "multiple_choice"
	Rating         QuestionType = "rating"
	OpenText       QuestionType = "open_text"
)

func (t QuestionType) check() error {
	switch t {
	case SingleChoice, MultipleChoice, Rating, OpenText:
		return nil
	}
	return fmt.Errorf("question type %q is none of %s, %s, %s, %s", string(t), SingleChoice, MultipleChoice, Rating, OpenText)
}

// MarshalText refuses an unknown type.
func (t QuestionType) MarshalText() ([]byte, error) { return []byte(t), t.check() }

// UnmarshalText refuses an unknown type.
func (t *QuestionType) UnmarshalText(text []byte) error {
	*t = QuestionType(text)
	return t.check()
}
