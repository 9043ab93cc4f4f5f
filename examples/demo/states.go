package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// showStates folds a discussion and prints what was known after a third, two thirds and all of it.
func showStates(ctx context.Context, page *page, store *eventstore.Store, id eventstore.StreamID) error {
	page.section("3. The state at three moments", "discussion.Apply(event)")
	head, err := store.Head(ctx, id)
	if err != nil {
		return err
	}
	moments := []eventstore.Version{(head.Version + 2) / 3, (2*head.Version + 2) / 3, head.Version}
	var d focusgroup.Discussion
	for event, err := range store.Stream(ctx, id, 0) {
		if err != nil {
			return fmt.Errorf("folding: %w", err)
		}
		if err := d.Apply(event); err != nil {
			return fmt.Errorf("folding: %w", err)
		}
		if slices.Contains(moments, d.Version) {
			showState(page, &d, head.Version)
		}
	}
	return nil
}

func showState(page *page, d *focusgroup.Discussion, last eventstore.Version) {
	status := string(d.Status)
	if d.EndReason != "" {
		status += " (" + d.EndReason + ")"
	}
	page.line("Version %d of %d, +%s, %s: %s (%s, %s), %s", d.Version, last, clock(d.LastAt.Sub(d.StartedAt)), status,
		plural(len(d.TurnOrder), "turn"), plural(d.Responses, "response"), plural(d.Followups, "followup"), usage(d.Usage))
	page.line("  spoke: %s", fit(speakers(d), width-9))
	showQuestions(page, d)
}

func usage(u focusgroup.Usage) string {
	if u.TokensIn+u.TokensOut == 0 {
		return "no model usage"
	}
	return fmt.Sprintf("%s tokens, $%.4f", thousands(u.TokensIn+u.TokensOut), u.CostUSD)
}

// speakers lists who spoke, who spoke longest first.
func speakers(d *focusgroup.Discussion) []string {
	spoke := slices.DeleteFunc(slices.Clone(d.Participants), func(p focusgroup.ParticipantState) bool { return p.Turns == 0 })
	slices.SortStableFunc(spoke, func(a, b focusgroup.ParticipantState) int { return cmp.Compare(b.SpokenSeconds, a.SpokenSeconds) })
	names := make([]string, len(spoke))
	for i, p := range spoke {
		names[i] = fmt.Sprintf("%s %d× %s", shortName(p.Participant), p.Turns, clock(time.Duration(p.SpokenSeconds*float64(time.Second))))
	}
	return names
}

const (
	shownQuestions = 5
	questionWidth  = 46
)

// showQuestions prints the questions asked so far and who answered them.
func showQuestions(page *page, d *focusgroup.Discussion) {
	var asked []focusgroup.QuestionState
	for _, q := range d.Questions {
		if q.AskedIn > 0 {
			asked = append(asked, q)
		}
	}
	for _, q := range asked[:min(len(asked), shownQuestions)] {
		followups := "; " + plural(q.Followups, "followup")
		answered := "no answer"
		if len(q.Answers) > 0 {
			names := make([]string, len(q.Answers))
			for i, a := range q.Answers {
				names[i] = shortName(d.Participants[a.Participant].Participant)
			}
			answered = "answered by "
			answered += fit(names, width-questionWidth-4-len(answered)-len(followups))
		}
		page.line("  %-*s  %s", questionWidth, shorten(q.Text, questionWidth), answered+followups)
	}
	var rest []string
	if more := len(asked) - shownQuestions; more > 0 {
		rest = append(rest, plural(more, "more question")+" asked")
	}
	if open := len(d.Questions) - len(asked); open > 0 {
		rest = append(rest, plural(open, "question")+" of the guide not asked yet")
	}
	if len(rest) > 0 {
		page.line("  (%s)", strings.Join(rest, ", "))
	}
}

// shortName is a first name where that can be told: not of a role such as "Project Manager", nor after a title.
func shortName(p focusgroup.Participant) string {
	name, _, _ := strings.Cut(p.Name, " (")
	if words := strings.Fields(name); len(words) == 2 && name != p.Occupation && !strings.HasSuffix(words[0], ".") && words[0] != "The" {
		return words[0]
	}
	return shorten(name, 22)
}
