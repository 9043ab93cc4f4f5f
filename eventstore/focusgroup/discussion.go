package focusgroup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
)

// Status of a discussion.
type Status string

// The statuses. The zero value is a discussion of which no event was applied.
const (
	StatusRunning Status = "running"
	StatusEnded   Status = "ended"
)

// Discussion is the state of a discussion: what its events say, folded in version order. It holds no texts of turns, so
// that it stays small however long the discussion is.
type Discussion struct {
	ID        eventstore.StreamID `json:"id"`
	Version   eventstore.Version  `json:"version"` // of the last event applied
	Status    Status              `json:"status,omitempty"`
	EndReason string              `json:"end_reason,omitempty"`

	ProjectID   string `json:"project_id,omitempty"`
	UserID      string `json:"user_id,omitempty"`
	ModeratorID string `json:"moderator_id,omitempty"`
	Title       string `json:"title,omitempty"`
	Language    string `json:"language,omitempty"`

	StartedAt time.Time `json:"started_at"` // occurred_at of the first event
	LastAt    time.Time `json:"last_at"`    // the latest occurred_at so far; turns may overlap
	EndedAt   time.Time `json:"ended_at"`   // zero while it runs

	// Participants are the invited, in their order, and then whoever else spoke.
	Participants []ParticipantState `json:"participants,omitempty"`
	// Questions are those of the guide, in its order, and then whatever else was asked.
	Questions []QuestionState `json:"questions,omitempty"`
	// TurnOrder is who spoke, turn by turn: indexes into Participants.
	TurnOrder TurnOrder `json:"turn_order,omitempty"`

	Responses     int     `json:"responses"`
	Followups     int     `json:"followups"`
	SpokenSeconds float64 `json:"spoken_seconds"` // sum of the turns' durations, overlaps counted twice
	Usage         Usage   `json:"usage"`          // sums; Model is empty
}

// TurnOrder is a list of indexes. It is the one part of a state that grows with every turn.
type TurnOrder []int

// UnmarshalJSON takes a fifth of the time that encoding/json does: a long discussion's snapshot is mostly this list.
func (o *TurnOrder) UnmarshalJSON(text []byte) error {
	if len(text) == 0 || text[0] != '[' {
		return json.Unmarshal(text, (*[]int)(o))
	}
	list := make([]int, 0, len(text)/2)
	number, digits := 0, false
	for _, b := range text[1:] {
		switch {
		case b >= '0' && b <= '9' && number < 1<<32:
			number, digits = 10*number+int(b-'0'), true
		case b == ',' || b == ']':
			if digits {
				list = append(list, number)
			}
			number, digits = 0, false
		case b == ' ' || b == '\n' || b == '\t' || b == '\r':
		default: // not what Apply makes
			return json.Unmarshal(text, (*[]int)(o))
		}
	}
	*o = list
	return nil
}

// ParticipantState is one speaker's part so far.
type ParticipantState struct {
	Participant
	Invited       bool    `json:"invited"` // stood in DiscussionStarted
	Turns         int     `json:"turns"`
	Responses     int     `json:"responses"`
	Words         int     `json:"words"` // as strings.Fields counts them
	SpokenSeconds float64 `json:"spoken_seconds"`
	Usage         Usage   `json:"usage"`
}

// QuestionState is what became of one question.
type QuestionState struct {
	Text      string             `json:"text"`
	Planned   bool               `json:"planned"` // stood in the guide
	AskedAt   time.Time          `json:"asked_at"`
	AskedIn   eventstore.Version `json:"asked_in,omitempty"` // version of the first turn on it; 0: not asked yet
	Answers   []Answer           `json:"answers,omitempty"`  // in the order of each participant's first response
	Followups int                `json:"followups"`
}

// Answer says who answered a question.
type Answer struct {
	Participant int                `json:"participant"` // index into Participants
	First       eventstore.Version `json:"first"`       // version of the first response
	Responses   int                `json:"responses"`
}

// ErrOutOfOrder is returned for an event that cannot come after those that were folded.
var ErrOutOfOrder = errors.New("not the discussion's next event")

func outOfOrder(d *Discussion, event eventstore.Recorded) error {
	return fmt.Errorf("%s version %d after %s version %d: %w", event.StreamID, event.Version, d.ID, d.Version, ErrOutOfOrder)
}

// Apply folds a later event into the state. Versions may be left out: people talk over each other, so what had occurred by a
// time has holes. Event types outside the vocabulary count as a version and change nothing else. An event of another stream,
// or one that is not later, is [ErrOutOfOrder] and changes nothing.
func (d *Discussion) Apply(event eventstore.Recorded) error {
	if event.Version <= d.Version || d.Version > 0 && event.StreamID != d.ID {
		return outOfOrder(d, event)
	}
	d.ID, d.Version = event.StreamID, event.Version
	if d.StartedAt.IsZero() {
		d.StartedAt = event.OccurredAt
	}
	if event.OccurredAt.After(d.LastAt) {
		d.LastAt = event.OccurredAt
	}
	switch e := event.Data.(type) {
	case DiscussionStarted:
		d.start(e)
	case Response:
		d.turn(Turn(e), event, true)
	case Followup:
		d.turn(Turn(e), event, false)
	case DiscussionEnded:
		d.Status, d.EndedAt, d.EndReason = StatusEnded, event.OccurredAt, e.Reason
		d.Usage.add(e.Usage)
	}
	return nil
}

func (d *Discussion) start(e DiscussionStarted) {
	d.Status = StatusRunning
	d.ProjectID, d.UserID, d.ModeratorID = e.ProjectID, e.UserID, e.ModeratorID
	d.Title, d.Language = e.Title, e.Language
	for _, p := range e.Participants {
		d.Participants = append(d.Participants, ParticipantState{Participant: p, Invited: true})
	}
	for _, text := range e.Questions {
		d.Questions = append(d.Questions, QuestionState{Text: text, Planned: true})
	}
}

func (d *Discussion) turn(turn Turn, event eventstore.Recorded, response bool) {
	speaker := d.speaker(turn)
	p := &d.Participants[speaker]
	p.Turns++
	p.Words += len(strings.Fields(turn.Text))
	p.SpokenSeconds += turn.DurationSeconds
	p.Usage.add(turn.Usage)
	d.TurnOrder = append(d.TurnOrder, speaker)
	d.SpokenSeconds += turn.DurationSeconds
	d.Usage.add(turn.Usage)
	question := d.question(turn, event)
	if !response {
		d.Followups++
		if question != nil {
			question.Followups++
		}
		return
	}
	d.Responses++
	p.Responses++
	if question == nil {
		return
	}
	i := slices.IndexFunc(question.Answers, func(a Answer) bool { return a.Participant == speaker })
	if i < 0 {
		i = len(question.Answers)
		question.Answers = append(question.Answers, Answer{Participant: speaker, First: event.Version})
	}
	question.Answers[i].Responses++
}

// speaker finds whoever speaks among the participants, by id, or where there is none by role and name, or adds them.
func (d *Discussion) speaker(turn Turn) int {
	id := turn.PersonaID
	if id == "" && turn.Role == RoleModerator {
		id = turn.ModeratorID
	}
	i := slices.IndexFunc(d.Participants, func(p ParticipantState) bool {
		return p.PersonaID == id && (id != "" || (p.Role == RoleModerator) == (turn.Role == RoleModerator) && p.Name == turn.PersonaName)
	})
	if i < 0 {
		i = len(d.Participants)
		d.Participants = append(d.Participants, ParticipantState{Participant: Participant{PersonaID: id, Name: turn.PersonaName, Role: turn.Role}})
	}
	return i
}

// question finds the turn's question, or adds it; nil if none is open.
func (d *Discussion) question(turn Turn, event eventstore.Recorded) *QuestionState {
	if turn.Question == "" {
		return nil
	}
	i := slices.IndexFunc(d.Questions, func(q QuestionState) bool { return q.Text == turn.Question })
	if i < 0 {
		i = len(d.Questions)
		d.Questions = append(d.Questions, QuestionState{Text: turn.Question})
	}
	if d.Questions[i].AskedIn == 0 {
		d.Questions[i].AskedIn, d.Questions[i].AskedAt = event.Version, event.OccurredAt
	}
	return &d.Questions[i]
}

// Fold applies a discussion's events, from its first, and returns the state after the last.
func Fold(events iter.Seq2[eventstore.Recorded, error]) (*Discussion, error) {
	discussion := &Discussion{}
	for event, err := range events {
		if err != nil {
			return nil, err
		}
		if event.Version != discussion.Version+1 {
			return nil, outOfOrder(discussion, event)
		}
		if err := discussion.Apply(event); err != nil {
			return nil, err
		}
	}
	return discussion, nil
}

// Load reads and folds a discussion. Without events its error matches [eventstore.ErrStreamNotFound].
func Load(ctx context.Context, store *eventstore.Store, id eventstore.StreamID) (*Discussion, error) {
	discussion, err := Fold(store.Stream(ctx, id, 0))
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", id, err)
	}
	if discussion.Version == 0 {
		return nil, fmt.Errorf("loading %s: %w", id, eventstore.ErrStreamNotFound)
	}
	return discussion, nil
}
