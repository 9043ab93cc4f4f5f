package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// How much of a long discussion is shown.
const (
	headTurns = 20
	tailTurns = 3
)

// Marks before a speaker's name.
const (
	answers   = "»"
	goesOn    = "·"
	moderates = "M"
)

// showReplay prints a discussion as readable text.
func showReplay(ctx context.Context, page *page, store *eventstore.Store, id eventstore.StreamID) error {
	page.section("2. Replay", "store.Stream(ctx, id, 0)")
	head, err := store.Head(ctx, id)
	if err != nil {
		return err
	}
	t := transcript{page: page, last: head.Version}
	for event, err := range store.Stream(ctx, id, 0) {
		if err != nil {
			return fmt.Errorf("replaying: %w", err)
		}
		t.print(event)
	}
	return nil
}

// transcript prints events one by one, as they come.
type transcript struct {
	page     *page
	last     eventstore.Version // of the discussion
	start    time.Time
	question string
	skipped  int
}

func (t *transcript) print(event eventstore.Recorded) {
	if event.Version > headTurns+1 && event.Version < t.last-tailTurns {
		t.skipped++
		return
	}
	if t.skipped > 0 {
		t.page.line("        … %s left out …", plural(t.skipped, "turn"))
		t.skipped = 0
	}
	switch e := event.Data.(type) {
	case focusgroup.DiscussionStarted:
		t.begin(event, e)
	case focusgroup.Response:
		t.turn(event, focusgroup.Turn(e), answers)
	case focusgroup.Followup:
		t.turn(event, focusgroup.Turn(e), goesOn)
	case focusgroup.DiscussionEnded:
		t.page.line("%7s  %s", t.offset(event), shorten("ended: "+e.Reason+". "+e.Summary, width-9))
	}
}

func (t *transcript) begin(event eventstore.Recorded, e focusgroup.DiscussionStarted) {
	t.start = event.OccurredAt
	names := make([]string, len(e.Participants))
	for i, p := range e.Participants {
		names[i] = p.Name
		if p.Age > 0 && p.Occupation != "" {
			names[i] = fmt.Sprintf("%s (%d, %s)", p.Name, p.Age, p.Occupation)
		}
		names[i] = shorten(names[i], 50)
	}
	t.page.line("%s", shorten(fmt.Sprintf("“%s”, project %s, %s", e.Title, e.ProjectID, event.OccurredAt.Format("2 January 2006 15:04 MST")), width))
	t.page.wrapped("with "+firstFew(names, 6), 5)
	t.page.line("» answers the open question, · goes on about it, M as the moderator; times step back where people overlap")
}

func (t *transcript) turn(event eventstore.Recorded, turn focusgroup.Turn, mark string) {
	if turn.Question != t.question && turn.Question != "" {
		t.question = turn.Question
		t.page.line("        ? %s", shorten(turn.Question, width-10))
	}
	if mark != answers && turn.Role == focusgroup.RoleModerator {
		mark = moderates
	}
	t.page.line("%7s %s %-20s  %s", t.offset(event), mark, shorten(turn.PersonaName, 20), shorten(turn.Text, width-32))
}

func (t *transcript) offset(event eventstore.Recorded) string {
	return "+" + clock(event.OccurredAt.Sub(t.start))
}
