package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// appendWeeks appends five weeks that are over: two cohorts of four personas, each in a project of its own, of whom fewer and
// fewer answer a survey each week.
func appendWeeks(t *testing.T, log *eventstoretest.Log) {
	t.Helper()
	first := mondayOf(time.Now().UTC()).AddDate(0, 0, -35)
	add := func(id eventstore.StreamID, at time.Time, data any) {
		_, err := log.Append(t.Context(), id, eventstore.Any, eventstore.Event{Data: data, OccurredAt: at})
		require.NoError(t, err)
	}
	for cohort := range 2 {
		for n := range 4 {
			persona, project := fmt.Sprintf("p%d%d", cohort, n), fmt.Sprintf("weeks%d", cohort)
			joined := first.AddDate(0, 0, 7*cohort+n).Add(23*time.Hour + 59*time.Minute) // late on a day of UTC
			add(focusgroup.PersonaStream(persona), joined, focusgroup.PersonaCreated{
				PersonaID: persona, ProjectID: project, Name: persona,
				Usage: focusgroup.Usage{Model: "large", TokensIn: 1000, TokensOut: 200, CostUSD: 0.1},
			})
			for week := 1; week <= 4-n && week < 5-cohort; week++ {
				add(focusgroup.SurveyStream(persona), joined.AddDate(0, 0, 7*week), focusgroup.SurveyCompleted{
					SurveyID: "s", ProjectID: project, PersonaID: persona,
					Usage: focusgroup.Usage{Model: []string{"large", "small"}[n%2], TokensIn: 500, TokensOut: 50, CostUSD: 0.02},
				})
			}
		}
	}
}

func mondayOf(at time.Time) time.Time {
	day := at.UTC().Truncate(24 * time.Hour)
	return day.AddDate(0, 0, -(int(day.Weekday())+6)%7)
}

// counted is what a log holds, counted without SQL.
type counted struct {
	active map[string]map[[2]string]bool // by day: project and persona
	acts   map[string]int                // by day
	weeks  map[string]map[time.Time]bool // by persona: weeks in which it was active
	talk   map[[2]string]spoken          // by speaker and persona, of the last six weeks with turns
	costs  map[[2]string]paid            // by day and model
}

type spoken struct {
	turns   int
	seconds float64
}

type paid struct {
	calls, in, out int64
	usd            float64
}

func count(t *testing.T, log *eventstoretest.Log) counted {
	t.Helper()
	c := counted{
		active: map[string]map[[2]string]bool{}, acts: map[string]int{}, weeks: map[string]map[time.Time]bool{},
		talk: map[[2]string]spoken{}, costs: map[[2]string]paid{},
	}
	events := eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{}))
	days := map[string]bool{}
	for _, e := range events {
		if e.Type == focusgroup.TypeResponse || e.Type == focusgroup.TypeFollowup {
			days[dayOf(e)] = true
		}
	}
	recent := newest(days)
	for _, e := range events {
		switch d := e.Data.(type) {
		case focusgroup.PersonaCreated:
			c.act(e, d.ProjectID, d.PersonaID)
			c.pay(e, d.Usage)
		case focusgroup.SurveyCompleted:
			c.act(e, d.ProjectID, d.PersonaID)
			c.pay(e, d.Usage)
		case focusgroup.DiscussionEnded:
			c.pay(e, d.Usage)
		case focusgroup.Response:
			c.turn(e, focusgroup.Turn(d), recent[0])
		case focusgroup.Followup:
			c.turn(e, focusgroup.Turn(d), recent[0])
		}
	}
	return c
}

func dayOf(e eventstore.Recorded) string { return e.OccurredAt.UTC().Format(time.DateOnly) }

func (c counted) act(e eventstore.Recorded, project, persona string) {
	day := dayOf(e)
	if persona == "" {
		return
	}
	if c.active[day] == nil {
		c.active[day] = map[[2]string]bool{}
	}
	if c.weeks[persona] == nil {
		c.weeks[persona] = map[time.Time]bool{}
	}
	c.active[day][[2]string{project, persona}] = true
	c.weeks[persona][mondayOf(e.OccurredAt)] = true
	c.acts[day]++
}

func (c counted) turn(e eventstore.Recorded, turn focusgroup.Turn, since string) {
	c.act(e, turn.ProjectID, turn.PersonaID)
	c.pay(e, turn.Usage)
	if turn.Role != focusgroup.RoleModerator && turn.DurationSeconds != 0 && dayOf(e) >= since {
		who := [2]string{cmp.Or(turn.PersonaName, turn.PersonaID), turn.PersonaID}
		c.talk[who] = spoken{c.talk[who].turns + 1, c.talk[who].seconds + turn.DurationSeconds}
	}
}

func (c counted) pay(e eventstore.Recorded, u focusgroup.Usage) {
	if u == (focusgroup.Usage{}) {
		return
	}
	key := [2]string{dayOf(e), u.Model}
	was := c.costs[key]
	c.costs[key] = paid{was.calls + 1, was.in + u.TokensIn, was.out + u.TokensOut, was.usd + u.CostUSD}
}

// newest are the days of the last six weeks up to the newest, in order.
func newest[V any](days map[string]V) []string {
	all := slices.Sorted(maps.Keys(days))
	if len(all) == 0 {
		return nil
	}
	last, _ := time.Parse(time.DateOnly, all[len(all)-1])
	since := last.AddDate(0, 0, -41).Format(time.DateOnly)
	return slices.DeleteFunc(all, func(day string) bool { return day < since })
}

// retention are the cells of the cohorts' table: week, size, n, active.
func (c counted) retention(today time.Time) (cells [][4]string) {
	cohorts := map[time.Time][]string{}
	for persona, weeks := range c.weeks {
		first := slices.MinFunc(slices.Collect(maps.Keys(weeks)), time.Time.Compare)
		cohorts[first] = append(cohorts[first], persona)
	}
	firsts := slices.SortedFunc(maps.Keys(cohorts), time.Time.Compare)
	for _, first := range firsts {
		for n := range 7 {
			week := first.AddDate(0, 0, 7*n)
			if !first.After(firsts[len(firsts)-1].AddDate(0, 0, -70)) || week.AddDate(0, 0, 7).After(today) {
				continue
			}
			active := 0
			for _, persona := range cohorts[first] {
				if c.weeks[persona][week] {
					active++
				}
			}
			cells = append(cells, [4]string{
				first.Format(time.DateOnly), strconv.Itoa(len(cohorts[first])), strconv.Itoa(n), strconv.Itoa(active),
			})
		}
	}
	return cells
}
