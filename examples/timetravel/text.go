package main

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// plainWidth is how wide text is outside a terminal.
const plainWidth = 110

// maxChanges is how many changes of a step are shown; the first step changes everything.
const maxChanges = 12

// turnOf is who said what in an event.
func turnOf(data any) (turn focusgroup.Turn, ok bool) {
	switch e := data.(type) {
	case focusgroup.Response:
		return focusgroup.Turn(e), true
	case focusgroup.Followup:
		return focusgroup.Turn(e), true
	}
	return focusgroup.Turn{}, false
}

// said is an event as a text.
func said(data any) string {
	switch e := data.(type) {
	case focusgroup.DiscussionStarted:
		return "“" + e.Title + "” begins."
	case focusgroup.DiscussionEnded:
		return strings.TrimSpace("Ended: " + e.Reason + ". " + e.Summary)
	}
	turn, _ := turnOf(data)
	return turn.Text
}

func (s *session) title() string {
	return fmt.Sprintf("“%s”, %s, %d events in %s", s.whole.Title, s.whole.StartedAt.Format("2 January 2006 15:04 MST"),
		s.player.Len(), s.offset(s.whole.LastAt))
}

// turn is the event at which the session stands.
func (s *session) turn(width int) []string {
	if s.step.Number == 0 {
		return []string{"before the first event"}
	}
	event := s.step.Event
	lines := []string{fmt.Sprintf("%d of %d  +%s  %s  %s", s.step.Number, s.player.Len(), s.offset(s.step.At),
		event.OccurredAt.Format("15:04:05"), event.Type)}
	turn, ok := turnOf(event.Data)
	text := said(event.Data)
	if ok {
		if turn.Question != "" {
			lines = append(lines, "? "+shorten(turn.Question, width-2))
		}
		text = turn.PersonaName + ": " + text
	}
	return append(lines, wrap(text, width)...)
}

// state is the discussion after the step: who has spoken, and what was asked.
func (s *session) state(width int) []string {
	d := s.step.State
	if s.step.Number == 0 {
		return []string{"nothing yet"}
	}
	status := string(d.Status)
	if d.EndReason != "" {
		status += " (" + d.EndReason + ")"
	}
	lines := []string{fmt.Sprintf("%s: %d turns (%d responses, %d followups), %d of %d questions asked",
		status, len(d.TurnOrder), d.Responses, d.Followups, len(askedOf(d)), len(d.Questions))}
	name := min(28, max(10, width-32))
	for _, p := range d.Participants {
		if p.Turns > 0 {
			spoke := time.Duration(p.SpokenSeconds * float64(time.Second)).Round(time.Second)
			lines = append(lines, fmt.Sprintf("  %-*s %4d× %6d words %8s", name, shorten(p.Name, name), p.Turns, p.Words, spoke))
		}
	}
	for i, q := range askedOf(d) {
		tail := fmt.Sprintf("  +%s, answered by %d, %d followups", s.offset(q.AskedAt), len(q.Answers), q.Followups)
		head := fmt.Sprintf("  %d. ", i+1)
		lines = append(lines, head+shorten(q.Text, max(20, width-utf8.RuneCountInString(head+tail)))+tail)
	}
	return lines
}

// diff is what the step changed in the state.
func (s *session) diff(width int) ([]string, error) {
	changes, err := s.step.Changes()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, change := range changes[:min(len(changes), maxChanges)] {
		lines = append(lines, shorten(change.String(), width))
	}
	if more := len(changes) - maxChanges; more > 0 {
		lines = append(lines, fmt.Sprintf("… and %d more", more))
	}
	return lines, nil
}

// clean takes from a line what would command a terminal: people wrote it.
func clean(line string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, line)
}

// shorten makes a text one line of so many characters.
func shorten(text string, limit int) string {
	return cut(strings.Join(strings.Fields(clean(text)), " "), limit)
}

// cut is a line with its spaces, cleaned, of so many characters.
func cut(line string, limit int) string {
	runes := []rune(clean(line))
	if len(runes) <= limit {
		return string(runes)
	}
	return strings.TrimRight(string(runes[:max(0, limit-1)]), " ,.;:") + "…"
}

func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(clean(text)) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimLeft(line+" "+word, " ")
	}
	return append(lines, line)
}
