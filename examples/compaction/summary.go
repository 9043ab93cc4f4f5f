package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// TypeDiscussionSummarised names the event type.
const TypeDiscussionSummarised = "discussion_summarised"

// DiscussionSummarised merges the events of a discussion that has ended. What comes to the discussion afterwards makes another
// one, of all its events; the first stays.
type DiscussionSummarised struct {
	Source     Source     `json:"source"`
	ProjectID  string     `json:"project_id,omitempty"`
	Title      string     `json:"title,omitempty"`
	Turns      int        `json:"turns"`
	Responses  int        `json:"responses"` // of the turns; the others are followups
	Speakers   []Speaker  `json:"speakers,omitempty"`
	Questions  []Question `json:"questions,omitempty"`
	Conclusion string     `json:"conclusion,omitempty"` // what DiscussionEnded says of it

	FirstTurnAt     time.Time `json:"first_turn_at,omitzero"`
	LastTurnAt      time.Time `json:"last_turn_at,omitzero"`
	DurationSeconds float64   `json:"duration_seconds"` // from its start to its end
	focusgroup.Usage
}

// StreamProject implements [eventstore.ProjectScoped].
func (s DiscussionSummarised) StreamProject() string { return s.ProjectID }

// Source is what a summary was made of: the versions 1 to LastVersion of a stream.
type Source struct {
	StreamID      eventstore.StreamID `json:"stream_id"`
	LastVersion   eventstore.Version  `json:"last_version"`
	FirstPosition eventstore.Position `json:"first_position"`
	LastPosition  eventstore.Position `json:"last_position"`
	// SHA256 is that of the events' lines in a recording (focusgroup.Export): sha256sum proves it, in whatever log they are.
	SHA256 string `json:"sha256"`
}

// Speaker is one who has spoken.
type Speaker struct {
	PersonaID     string          `json:"persona_id,omitempty"`
	Name          string          `json:"name,omitempty"`
	Role          focusgroup.Role `json:"role,omitempty"` // Empty is a participant.
	Turns         int             `json:"turns"`
	Words         int             `json:"words"`
	SpokenSeconds float64         `json:"spoken_seconds,omitempty"`
}

// Question is one of the guide, or one that was asked.
type Question struct {
	Text    string `json:"text"`
	Answers int    `json:"answers"` // responses to it
}

// newCodec knows discussions and their summaries.
func newCodec() (*eventstore.Codec, error) {
	return eventstore.NewCodec(append(focusgroup.Types(), eventstore.Type[DiscussionSummarised](TypeDiscussionSummarised))...)
}

// errRunning: a discussion that has not ended has no summary.
var errRunning = errors.New("the discussion runs")

// summarise folds the events of a discussion, from its first, and returns the last of them too.
func summarise(events iter.Seq2[eventstore.Recorded, error]) (s DiscussionSummarised, last eventstore.Recorded, err error) {
	var d focusgroup.Discussion
	digest := sha256.New()
	_, err = focusgroup.Export(digest, func(yield func(eventstore.Recorded, error) bool) {
		for event, err := range events {
			if err == nil {
				err = d.Apply(event)
			}
			if err == nil {
				s.note(event)
				last = event
			}
			if !yield(event, err) {
				return
			}
		}
	})
	if err != nil {
		return s, last, err
	}
	if d.Status != focusgroup.StatusEnded {
		return s, last, errRunning
	}
	s.Source.StreamID, s.Source.LastVersion, s.Source.LastPosition = d.ID, d.Version, last.Position
	s.Source.SHA256 = hex.EncodeToString(digest.Sum(nil))
	s.state(&d)
	return s, last, nil
}

// note takes from an event what the state of a discussion does not hold.
func (s *DiscussionSummarised) note(event eventstore.Recorded) {
	if s.Source.FirstPosition == 0 {
		s.Source.FirstPosition = event.Position
	}
	switch e := event.Data.(type) {
	case focusgroup.DiscussionEnded:
		s.Conclusion = e.Summary
	case focusgroup.Response, focusgroup.Followup: // people talk over each other: the last may not be the latest
		if s.FirstTurnAt.IsZero() || event.OccurredAt.Before(s.FirstTurnAt) {
			s.FirstTurnAt = event.OccurredAt
		}
		if event.OccurredAt.After(s.LastTurnAt) {
			s.LastTurnAt = event.OccurredAt
		}
	}
}

// state takes the rest from the state after the last event.
func (s *DiscussionSummarised) state(d *focusgroup.Discussion) {
	s.ProjectID, s.Title, s.Usage = d.ProjectID, d.Title, d.Usage
	s.Turns, s.Responses = d.Responses+d.Followups, d.Responses
	s.DurationSeconds = d.EndedAt.Sub(d.StartedAt).Seconds()
	for _, p := range d.Participants {
		if p.Turns > 0 {
			s.Speakers = append(s.Speakers, Speaker{p.PersonaID, p.Name, p.Role, p.Turns, p.Words, p.SpokenSeconds})
		}
	}
	for _, q := range d.Questions {
		question := Question{Text: q.Text}
		for _, a := range q.Answers {
			question.Answers += a.Responses
		}
		s.Questions = append(s.Questions, question)
	}
}

// String shows the discussion. Texts are quoted: what people wrote must not command a terminal.
func (s DiscussionSummarised) String() string {
	var out strings.Builder
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(&out, format+"\n", args...) }
	line("%q, %s to %s, %s", s.Title, s.FirstTurnAt.Format("2 January 2006 15:04:05"), s.LastTurnAt.Format("15:04:05"),
		time.Duration(s.DurationSeconds*float64(time.Second)).Round(time.Second))
	line("%d turns, %d of them responses; %d tokens in, %d out, $%.4f", s.Turns, s.Responses, s.TokensIn, s.TokensOut, s.CostUSD)
	for _, p := range s.Speakers {
		line("  %3d× %5d words  %q", p.Turns, p.Words, p.Name)
	}
	for _, q := range s.Questions {
		line("  %3d× answered  %q", q.Answers, q.Text)
	}
	if s.Conclusion != "" {
		line("%q", s.Conclusion)
	}
	line("Made of %s, versions 1 to %d, at positions %d to %d", s.Source.StreamID, s.Source.LastVersion, s.Source.FirstPosition, s.Source.LastPosition)
	line("SHA-256 %s", s.Source.SHA256)
	return out.String()
}
