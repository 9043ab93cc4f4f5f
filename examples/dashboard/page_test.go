package main

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/examples/internal/command"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
)

func newLog(t *testing.T, recordings ...string) *eventstoretest.Log {
	t.Helper()
	log := eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
	for _, recording := range recordings {
		require.NoError(t, command.Import(t.Context(), log.Store, recording))
	}
	return log
}

// pageOf writes a log's page.
func pageOf(t *testing.T, log *eventstoretest.Log) (path, page string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "dashboard.html")
	require.NoError(t, buildStar(t.Context(), log.Store))
	require.NoError(t, writePage(t.Context(), log.Store, path, io.Discard))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return path, string(text)
}

// section is a panel's part of a page.
func section(t *testing.T, page, id string) string {
	t.Helper()
	_, rest, found := strings.Cut(page, `<section class="card" id="`+id+`"`)
	require.True(t, found, id)
	part, _, found := strings.Cut(rest, "</section>")
	require.True(t, found, id)
	return part
}

// rows are a panel's rows, as its table shows them.
func rows(t *testing.T, page, id string) (rows [][]string) {
	t.Helper()
	_, body, found := strings.Cut(section(t, page, id), "<tbody>")
	require.True(t, found, id)
	for _, line := range regexp.MustCompile(`(?s)<tr>.*?</tr>`).FindAllString(body, -1) {
		var row []string
		for _, cell := range regexp.MustCompile(`(?s)<td>(.*?)</td>`).FindAllStringSubmatch(line, -1) {
			row = append(row, html.UnescapeString(cell[1]))
		}
		rows = append(rows, row)
	}
	return rows
}

func number64(t *testing.T, text string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(text, 64)
	require.NoError(t, err)
	return n
}

// The page's numbers are those of the log, counted event by event.
func TestNumbersAreThoseOfTheLog(t *testing.T) {
	t.Parallel()
	t.Run("bundled and weeks", func(t *testing.T) {
		t.Parallel()
		log := newLog(t, command.Recordings()...)
		appendWeeks(t, log)
		_, page := pageOf(t, log)
		requireNumbers(t, page, count(t, log))
		for _, p := range panels() {
			require.Contains(t, section(t, page, p.ID), "<svg", p.ID)
		}
	})
	t.Run("corpus", func(t *testing.T) {
		t.Parallel()
		log := newLog(t, filepath.Join(corpustest.Recordings(t), "qmsum_ami_val.ndjson.gz"))
		_, page := pageOf(t, log)
		c := count(t, log)
		require.GreaterOrEqual(t, len(c.active), 5)
		requireNumbers(t, page, c)
		require.GreaterOrEqual(t, len(rows(t, page, "talk")), 5)
	})
}

func requireNumbers(t *testing.T, page string, c counted) {
	t.Helper()
	var want [][]string
	for _, day := range newest(c.active) {
		want = append(want, []string{day, strconv.Itoa(len(c.active[day])), strconv.Itoa(c.acts[day])})
	}
	require.Equal(t, want, rows(t, page, "active"))

	talk := rows(t, page, "talk")
	require.Len(t, talk, min(15, len(c.talk)))
	least := 0.0
	for _, row := range talk {
		who := [2]string{row[0], row[1]}
		require.Equal(t, strconv.Itoa(c.talk[who].turns), row[2], who)
		require.InDelta(t, c.talk[who].seconds, number64(t, row[3]), 0.051, who)
		least = c.talk[who].seconds
		delete(c.talk, who)
	}
	for who, rest := range c.talk {
		require.LessOrEqual(t, rest.seconds, least+0.1, who)
	}

	requireCosts(t, page, c)
	var cells [][4]string
	for _, row := range rows(t, page, "cohorts") {
		cells = append(cells, [4]string(row[:4]))
		require.InDelta(t, number64(t, row[3])/number64(t, row[1]), number64(t, row[4]), 1e-4)
	}
	require.Equal(t, c.retention(time.Now().UTC()), cells)
}

func requireCosts(t *testing.T, page string, c counted) {
	t.Helper()
	days := map[string]bool{}
	for key := range c.costs {
		days[key[0]] = true
	}
	since := ""
	if recent := newest(days); len(recent) > 0 {
		since = recent[0]
	}
	maps.DeleteFunc(c.costs, func(key [2]string, _ paid) bool { return key[0] < since })
	for _, id := range []string{"cost", "tokens"} {
		table := rows(t, page, id)
		require.Len(t, table, len(c.costs))
		for _, row := range table {
			want := c.costs[[2]string{row[0], row[1]}]
			require.Equal(t, []string{text(want.calls), text(want.in), text(want.out)}, row[2:5], row)
			require.InDelta(t, want.usd, number64(t, row[5]), 1e-6, row)
		}
	}
}

// The weeks that were made up show in the heat map as they were made: all in the first week, then fewer and fewer.
func TestCohortsOfWeeksThatAreOver(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWeeks(t, log)
	_, page := pageOf(t, log)
	var active []string
	for _, row := range rows(t, page, "cohorts") {
		active = append(active, row[3])
	}
	require.Equal(t, "4 4 3 2 1 4 4 3 2", strings.Join(active, " "))
	cells := regexp.MustCompile(`>(\d+)</text>`).FindAllStringSubmatch(section(t, page, "cohorts"), -1)
	var drawn []string
	for _, cell := range cells {
		drawn = append(drawn, cell[1])
	}
	require.Contains(t, strings.Join(drawn, " "), "100 100 75 50 25 100 100 75 50")
}

// hostile is what a page must show, and never run.
const hostile = `</svg><script>document.title = "taken"</script><b onclick=x>&amp; "it's" <!-- ${x}`

func hostileLog(t *testing.T) *eventstoretest.Log {
	t.Helper()
	log := newLog(t)
	people := []focusgroup.Participant{{PersonaID: "ann", Name: "<b>Ann</b>"}}
	_, err := log.Append(t.Context(), focusgroup.NewDiscussionID(), eventstore.NoStream,
		focusgroup.DiscussionStarted{ProjectID: "<i>", Title: hostile, Participants: people},
		focusgroup.Response{
			ProjectID: "<i>", PersonaID: "ann", PersonaName: "<b>Ann</b>", DurationSeconds: 3, Text: hostile,
			Usage: focusgroup.Usage{Model: "<b>", TokensIn: 1, CostUSD: 1},
		},
		focusgroup.Response{
			ProjectID: "<i>", PersonaID: hostile, PersonaName: hostile, DurationSeconds: 2,
			Usage: focusgroup.Usage{Model: hostile, TokensIn: 1},
		},
		focusgroup.DiscussionEnded{ProjectID: "<i>", Reason: hostile})
	require.NoError(t, err)
	_, err = log.Append(t.Context(), focusgroup.ProjectStream("<i>"), eventstore.Any,
		focusgroup.ProjectCreated{ProjectID: "<i>", Name: hostile})
	require.NoError(t, err)
	return log
}

// The page asks for nothing else, and what people wrote stays text, in tables and in charts.
func TestPageIsSelfContainedAndShowsTextAsText(t *testing.T) {
	t.Parallel()
	for name, log := range map[string]*eventstoretest.Log{"bundled": newLog(t, command.Recordings()...), "hostile": hostileLog(t)} {
		_, page := pageOf(t, log)
		for _, namespace := range []string{"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"} {
			page = strings.ReplaceAll(page, `="`+namespace+`"`, "")
		}
		require.NotRegexp(t, `(?i)(src|href|action)\s*=|url\(|@import|https?:|<link|<iframe|<script|<b[ >]|<i>|<!--`, page, name)
		require.Equal(t, strings.Count(page, "<svg"), strings.Count(page, "</svg>"), name)
	}
	_, page := pageOf(t, hostileLog(t))
	require.Contains(t, section(t, page, "talk"), ">&lt;b&gt;Ann&lt;/b&gt;</text>")
	require.Equal(t, []string{"<b>Ann</b>", "ann", "1", "3"}, rows(t, page, "talk")[0])
	require.Equal(t, []string{hostile, hostile, "1", "2"}, rows(t, page, "talk")[1])
	require.Equal(t, hostile, rows(t, page, "health")[0][0])
}

// What page.css says of colours is of those that the charts are drawn in.
func TestStyleKnowsTheChartsColours(t *testing.T) {
	t.Parallel()
	log := newLog(t, command.Recordings()...)
	appendWeeks(t, log)
	_, page := pageOf(t, log)
	_, charts, found := strings.Cut(page, "</style>")
	require.True(t, found)
	colours := regexp.MustCompile(`\[style\*="([^"]+)"\]`).FindAllStringSubmatch(pageCSS, -1)
	require.Len(t, colours, 4)
	for _, colour := range colours {
		require.Contains(t, charts, colour[1])
	}
}

// Where there is nothing to draw the page says so; a persona of today is in a cohort that says nothing yet.
func TestNothingToShow(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	_, page := pageOf(t, log)
	for _, p := range panels() {
		require.Contains(t, section(t, page, p.ID), html.EscapeString(p.Empty), p.ID)
		require.NotContains(t, section(t, page, p.ID), "<svg", p.ID)
		require.Empty(t, rows(t, page, p.ID), p.ID)
	}

	_, err := log.Append(t.Context(), focusgroup.PersonaStream("p"), eventstore.NoStream, focusgroup.PersonaCreated{PersonaID: "p"})
	require.NoError(t, err)
	_, page = pageOf(t, log)
	require.Contains(t, section(t, page, "cohorts"), "No cohort is a week old")
	require.Contains(t, section(t, page, "active"), "<svg")
	require.Contains(t, section(t, page, "health"), "<svg")
}

// An event that the star cannot take makes the page's numbers wrong: there is no page.
func TestParkedEventIsAnError(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	_, err := log.Append(t.Context(), focusgroup.PersonaStream("p"), eventstore.NoStream,
		focusgroup.PersonaCreated{PersonaID: "p", Usage: focusgroup.Usage{TokensIn: -1}})
	require.NoError(t, err)
	require.ErrorContains(t, buildStar(t.Context(), log.Store), "cannot be applied")
}

func TestProgram(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	path := filepath.Join(t.TempDir(), "out.html")
	require.NoError(t, run(t.Context(), path, nil, &out))
	require.Regexp(t, `: 78 events of 2 discussions, 6 charts, \d+ kB\n$`, out.String())
	require.FileExists(t, path)
	require.ErrorIs(t, run(t.Context(), path, []string{"missing.ndjson"}, &out), os.ErrNotExist)
}

// The eight projects that were active last are shown, however low their scores; what is dated in years stretches no chart, and
// talk of last year is left out.
func TestPanelsShowWhatIsRecent(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	now := time.Now().UTC()
	add := func(id eventstore.StreamID, at time.Time, data any) {
		_, err := log.Append(t.Context(), id, eventstore.Any, eventstore.Event{Data: data, OccurredAt: at})
		require.NoError(t, err)
	}
	for n := range 10 { // project 9 has just begun a discussion that goes nowhere; those of 0 were completed, days ago
		project := fmt.Sprintf("project %d", n)
		id := eventstore.StreamID(fmt.Sprintf("discussion-%d", n))
		add(id, now.AddDate(0, 0, n-12), focusgroup.DiscussionStarted{ProjectID: project, Participants: []focusgroup.Participant{{PersonaID: "a", Name: "A"}}})
		turn := focusgroup.Response{ProjectID: project, PersonaID: "a", PersonaName: "A", Question: "Why?", Text: "So.", DurationSeconds: 2, Usage: focusgroup.Usage{Model: "m", TokensIn: 1}}
		if n < 5 {
			add(id, now.AddDate(0, 0, n-12), turn)
			add(id, now.AddDate(0, 0, n-12), focusgroup.DiscussionEnded{ProjectID: project, Reason: "completed"})
		}
		if n == 0 {
			old, far := turn, turn
			old.PersonaName, far.PersonaName = "Old", "Far"
			add("discussion-old", now.AddDate(-1, 0, 0), old)
			add("discussion-far", now.AddDate(70, 0, 0), far)
		}
	}
	_, page := pageOf(t, log)
	var projects []string
	for _, row := range rows(t, page, "health") {
		projects = append(projects, row[0])
	}
	require.Equal(t, strings.Split("9 8 7 6 5 4 3 2", " "), strings.Fields(strings.ReplaceAll(strings.Join(projects, " "), "project ", "")))
	require.Equal(t, [][]string{{"A", "a", "5", "10"}}, rows(t, page, "talk"))
	for _, id := range []string{"active", "cost"} {
		require.Len(t, rows(t, page, id), 5, id)
	}
}

// Each panel reads its tables by indexes, and no month of a fact in which it shows nothing.
func TestPanelsUseIndexes(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	at := time.Now().UTC()
	turn := focusgroup.Response{ProjectID: "p", PersonaID: "a", PersonaName: "A", DurationSeconds: 2, Text: "So.", Usage: focusgroup.Usage{Model: "m", TokensIn: 1}}
	for months := range 8 {
		_, err := log.Append(t.Context(), eventstore.StreamID(fmt.Sprintf("discussion-%d", months)), eventstore.Any,
			eventstore.Event{Data: turn, OccurredAt: at.AddDate(0, 0, -30*months)})
		require.NoError(t, err)
	}
	require.NoError(t, buildStar(t.Context(), log.Store))
	require.NoError(t, pgx.BeginFunc(t.Context(), log.Pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `SELECT set_config('search_path', $1, true), set_config('enable_seqscan', 'off', true)`, log.Schema()) // the tables are small
		require.NoError(t, err)
		for _, p := range panels() {
			lines, err := tx.Query(t.Context(), `EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) `+p.SQL, pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err)
			plan, err := pgx.CollectRows(lines, pgx.RowTo[string])
			require.NoError(t, err)
			text := strings.Join(plan, "\n")
			require.NotRegexp(t, `Seq Scan on \S*(fact_|daily_|weekly_|project_health)`, text, p.ID)
			require.Regexp(t, `Index|Bitmap`, text, p.ID)
			// Of an old month at most the newest day is read, by an index alone.
			require.NotRegexp(t, `Index Scan using fact_\w+`+at.AddDate(0, 0, -120).Format("_2006_01")+`\w* on .*actual rows`, text, p.ID)
		}
		return nil
	}))
}
