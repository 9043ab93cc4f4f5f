package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/examples/internal/browser"
	"github.com/sight-platform/hindsight/examples/internal/command"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
	"github.com/sight-platform/hindsight/snapshot"
)

// hostile is what a page must show, and never run.
const hostile = `</script><script>document.title = "taken"</script><b onclick=x>&amp; "it's" <!-- \u2028 ${x}` + "\x1b[2J."

// discussion is one that tests know by itself: folded by hand, without a player.
type discussion struct {
	log    *eventstoretest.Log
	id     eventstore.StreamID
	events []eventstore.Recorded
	states [][]byte // JSON after so many events
}

func imported(t *testing.T, path string) discussion {
	t.Helper()
	d := discussion{log: eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})}
	lines, err := read(path, "")
	require.NoError(t, err)
	d.id, err = importLines(t.Context(), d.log.Store, lines)
	require.NoError(t, err)
	d.fold(t)
	return d
}

func (d *discussion) fold(t *testing.T) {
	t.Helper()
	d.events = eventstoretest.Collect(t, d.log.Stream(t.Context(), d.id, 0))
	state := &focusgroup.Discussion{}
	for i := range len(d.events) + 1 {
		if i > 0 {
			require.NoError(t, state.Apply(d.events[i-1]))
		}
		text, err := json.Marshal(state)
		require.NoError(t, err)
		d.states = append(d.states, text)
	}
}

func (d *discussion) state(t *testing.T, step int) (state focusgroup.Discussion) {
	t.Helper()
	require.NoError(t, json.Unmarshal(d.states[step], &state))
	return state
}

// bands counts the stretches of turns with one question open.
func (d *discussion) bands() (n int) {
	open := ""
	for _, event := range d.events {
		if turn, ok := turnOf(event.Data); ok {
			if turn.Question != "" && turn.Question != open {
				n++
			}
			open = turn.Question
		}
	}
	return n
}

func (d *discussion) page(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "out.html")
	require.NoError(t, writePage(t.Context(), d.log.Store, d.id, path, io.Discard))
	return path
}

func hostileDiscussion(t *testing.T) discussion {
	t.Helper()
	d := discussion{log: eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()}), id: focusgroup.NewDiscussionID()}
	people := []focusgroup.Participant{{PersonaID: hostile, Name: hostile}}
	_, err := d.log.Append(t.Context(), d.id, eventstore.NoStream,
		focusgroup.DiscussionStarted{Title: hostile, Language: hostile, Participants: people},
		focusgroup.Response{PersonaID: hostile, PersonaName: hostile, Question: hostile, Text: hostile},
		focusgroup.DiscussionEnded{Reason: hostile})
	require.NoError(t, err)
	d.fold(t)
	return d
}

// The page asks for nothing else, and what people wrote stays text.
func TestPageIsSelfContained(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]discussion{"bundled": imported(t, command.Recordings()[0]), "hostile": hostileDiscussion(t)} {
		page, err := os.ReadFile(d.page(t))
		require.NoError(t, err)
		require.NotRegexp(t, regexp.MustCompile(`(?i)(src|href|action)\s*=|url\(|@import|https?:|<link|<iframe`), string(page), name)
		require.Equal(t, 2, strings.Count(string(page), "</script>"), name)
		_, rest, ok := bytes.Cut(page, []byte(`id="data">`))
		require.True(t, ok)
		text, _, ok := bytes.Cut(rest, []byte("</script>"))
		require.True(t, ok)
		var data pageData
		require.NoError(t, json.Unmarshal(text, &data))
		require.Len(t, data.Events, len(d.events))
		require.Equal(t, said(d.events[1].Data), data.Events[1].Text)
	}
}

// see does the actions and returns what the page then shows.
func see(t *testing.T, page context.Context, actions ...chromedp.Action[chromedp.Void]) shown {
	t.Helper()
	require.NoError(t, chromedp.Do(page, actions...))
	seen, err := chromedp.Run(page, chromedp.Evaluate[shown](look))
	require.NoError(t, err)
	return seen
}

// shown is what somebody sees on the page.
type shown struct {
	Speaker, Question, Text, Where, State string
	Turns                                 []int
	Changes                               []string
	Lanes, Bands, Bars                    int
	Now                                   []string // lanes that are marked
}

const look = `(() => {
  const text = (id) => document.getElementById(id).textContent, all = (query) => [...document.querySelectorAll(query)];
  return {
    speaker: text("speaker"), question: text("question"), text: text("text"), where: text("where"), state: text("json"),
    turns: all("#participants tr").map((row) => Number(row.children[1].textContent)),
    changes: all("#changes li").map((item) => item.textContent), now: all(".name.now").map((name) => name.textContent),
    lanes: all(".lane").length, bands: all(".band").length, bars: all(".bar").length,
  };
})()`

// slide moves the slider as a hand does.
func slide(step int) chromedp.Action[chromedp.Void] {
	return chromedp.Evaluate[chromedp.Void](`(() => {
  const slider = document.getElementById("slider");
  slider.value = ` + strconv.Itoa(step) + `;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
})()`)
}

// requireShown wants the page to show a step as it was, after the actions.
func (d *discussion) requireShown(t *testing.T, tab context.Context, step int, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	page := see(t, tab, actions...)
	event := d.events[step-1]
	require.Regexp(t, regexp.MustCompile("^"+strconv.Itoa(step)+" of "+strconv.Itoa(len(d.events))+" · "), page.Where)
	require.Equal(t, said(event.Data), page.Text)
	state := d.state(t, step)
	require.Len(t, page.Turns, len(state.Participants))
	for i, participant := range state.Participants {
		require.Equal(t, participant.Turns, page.Turns[i], participant.Name)
	}
	if turn, ok := turnOf(event.Data); ok {
		speaker := state.Participants[state.TurnOrder[len(state.TurnOrder)-1]].Name
		require.Equal(t, turn.Question, page.Question)
		require.Equal(t, speaker, page.Speaker)
		require.Equal(t, []string{speaker}, page.Now)
	}
	require.JSONEq(t, string(d.states[step]), page.State)
	changes, err := snapshot.DiffJSON(d.states[step-1], d.states[step])
	require.NoError(t, err)
	require.Len(t, page.Changes, len(changes))
	for i, change := range changes {
		require.True(t, strings.HasPrefix(page.Changes[i], change.Path+" "), page.Changes[i])
	}
}

// A real browser shows each step's turn, state and changes, by the slider and by keys.
func TestPageInABrowser(t *testing.T) {
	t.Parallel()
	ctx := browser.Open(t)
	t.Run("bundled", func(t *testing.T) {
		d := imported(t, command.Recordings()[0])
		page := browser.Tab(t, ctx, d.page(t), 1280, 1000)
		seen := see(t, page)
		require.Equal(t, [3]int{6, 5, 37}, [3]int{seen.Lanes, seen.Bands, seen.Bars})
		for step := range len(d.events) {
			d.requireShown(t, page, step+1, slide(step+1))
		}
		seen = see(t, page, slide(8))
		require.Equal(t, "8 of 39 · +01:34 of 09:16", seen.Where)
		require.Contains(t, seen.Changes, "/turn_order/6 + 4")
		require.Contains(t, seen.Changes, "/version 7 → 8")
	})
	t.Run("hostile", func(t *testing.T) {
		d := hostileDiscussion(t)
		page := browser.Tab(t, ctx, d.page(t), 1280, 1000)
		d.requireShown(t, page, 2, slide(2))
		title, err := chromedp.Run(page, chromedp.Title())
		require.NoError(t, err)
		require.Equal(t, clean(hostile), title)
	})
	t.Run("corpus", func(t *testing.T) {
		d := imported(t, filepath.Join(corpustest.Recordings(t), "qmsum_ami_val.ndjson.gz"))
		page := browser.Tab(t, ctx, d.page(t), 1280, 1000)
		last := d.state(t, len(d.events))
		seen := see(t, page)
		require.Equal(t, [3]int{len(last.Participants), d.bands(), len(last.TurnOrder)}, [3]int{seen.Lanes, seen.Bands, seen.Bars})
		require.Greater(t, seen.Bands, 10)
		require.Greater(t, seen.Bars, 1000)
		steps := []int{1, 99, 100, 101, len(d.events), 2}
		for range 20 {
			steps = append(steps, 1+rand.IntN(len(d.events)))
		}
		for _, step := range steps {
			d.requireShown(t, page, step, slide(step))
		}
	})
}

// The arrow keys go one event on or back: on the slider by the browser, elsewhere by the page.
func TestPageGoesByKeysAndClicks(t *testing.T) {
	t.Parallel()
	d := imported(t, command.Recordings()[0])
	page := browser.Tab(t, browser.Open(t), d.page(t), 1280, 1000)
	right, left := chromedp.KeyEvent(kb.ArrowRight), chromedp.KeyEvent(kb.ArrowLeft)
	d.requireShown(t, page, 1)
	d.requireShown(t, page, 2, right)
	d.requireShown(t, page, 1, left)
	d.requireShown(t, page, 1, left)
	d.requireShown(t, page, 2, chromedp.Focus(chromedp.CSS("#slider")), right)
	d.requireShown(t, page, 4, right, right)
	d.requireShown(t, page, 39, chromedp.KeyEvent(kb.End))
	d.requireShown(t, page, 39, right)
	d.requireShown(t, page, 38, chromedp.Click(chromedp.CSS("#back")))
	d.requireShown(t, page, 18, chromedp.Click(chromedp.CSS(".band:nth-child(3)")))
	d.requireShown(t, page, 19, chromedp.Click(chromedp.CSS("#next")))
	d.requireShown(t, page, 2, chromedp.Click(chromedp.CSS(".lane:first-child .bar")))
}
