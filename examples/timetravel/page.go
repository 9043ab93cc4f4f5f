package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"os"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/snapshot"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string
)

// pageStates is how many steps apart the page holds whole states; between them it applies changes.
const pageStates = 100

// pageData is what the page's script knows. Times are milliseconds from the start.
type pageData struct {
	Start   time.Time           `json:"start"`
	Length  int64               `json:"length"`
	Lanes   []string            `json:"lanes"` // the participants' names
	Bands   []pageBand          `json:"bands"`
	Events  []pageEvent         `json:"events"`
	Apart   int                 `json:"apart"`   // pageStates
	States  []any               `json:"states"`  // before the first step, after pageStates, after twice as many …
	Changes [][]snapshot.Change `json:"changes"` // of each step

	question string // the one that is open where the player stands
}

// pageBand is a stretch of the discussion with one question open.
type pageBand struct {
	Question string `json:"question"`
	Step     int    `json:"step"` // its first
	From     int64  `json:"from"`
	To       int64  `json:"to"`
}

type pageEvent struct {
	Type     string `json:"type"`
	Lane     int    `json:"lane"` // -1: nobody's
	At       int64  `json:"at"`   // when it plays
	Began    int64  `json:"began"`
	Lasted   int64  `json:"lasted,omitempty"` // 0: unknown
	Question string `json:"question,omitempty"`
	Text     string `json:"text"`
}

// writePage writes the discussion as one file that needs no other.
func writePage(ctx context.Context, store *eventstore.Store, id eventstore.StreamID, path string, out io.Writer) error {
	data, err := pageOf(ctx, store, id)
	if err != nil {
		return err
	}
	page, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return err
	}
	whole, err := focusgroup.Load(ctx, store, id)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	err = page.Execute(&text, map[string]any{
		"Discussion": whole, "Data": data, "Style": template.CSS(pageCSS), "Script": template.JS(pageJS),
	})
	if err != nil {
		return fmt.Errorf("making the page: %w", err)
	}
	if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	_, err = fmt.Fprintf(out, "%s: %d events, %d kB\n", path, len(data.Events), text.Len()/1000)
	return err
}

// pageOf plays the discussion as fast as it can, and notes each step.
func pageOf(ctx context.Context, store *eventstore.Store, id eventstore.StreamID) (*pageData, error) {
	player, err := openPlayer(ctx, store, id, 0)
	if err != nil {
		return nil, err
	}
	data := &pageData{Apart: pageStates, States: []any{&focusgroup.Discussion{}}, Bands: []pageBand{}, Lanes: []string{}}
	for step, err := range player.Steps(ctx) {
		if err != nil {
			return nil, err
		}
		if err := data.add(step); err != nil {
			return nil, fmt.Errorf("noting step %d: %w", step.Number, err)
		}
	}
	data.close(data.Length)
	return data, nil
}

func (d *pageData) add(step step) error {
	if step.Number == 1 {
		d.Start = step.At
	}
	after := func(at time.Time) int64 { return at.Sub(d.Start).Milliseconds() }
	event := pageEvent{
		Type: step.Event.Type, Lane: -1, At: after(step.At), Began: after(step.Event.OccurredAt), Text: said(step.Event.Data),
	}
	if turn, ok := turnOf(step.Event.Data); ok {
		order := step.State.TurnOrder
		event.Lane, event.Question = order[len(order)-1], turn.Question
		event.Lasted = int64(turn.DurationSeconds * 1000)
		d.open(event, step.Number)
	}
	d.Length = max(d.Length, event.At, event.Began+event.Lasted)
	for _, p := range step.State.Participants[len(d.Lanes):] {
		d.Lanes = append(d.Lanes, p.Name)
	}
	changes, err := step.Changes()
	if err != nil {
		return err
	}
	d.Events, d.Changes = append(d.Events, event), append(d.Changes, changes)
	if step.Number%d.Apart == 0 {
		state, err := json.Marshal(step.State) // the state itself goes on
		if err != nil {
			return err
		}
		d.States = append(d.States, json.RawMessage(state))
	}
	return nil
}

// open notes the question that is open with an event.
func (d *pageData) open(event pageEvent, step int) {
	if event.Question == d.question {
		return
	}
	d.close(event.At)
	if d.question = event.Question; d.question != "" {
		d.Bands = append(d.Bands, pageBand{Question: event.Question, Step: step, From: event.At})
	}
}

func (d *pageData) close(at int64) {
	if d.question != "" {
		d.Bands[len(d.Bands)-1].To = at
	}
}
