package analytics_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// smallWorld begins on a Monday.
func smallWorld() time.Time { return time.Date(2025, 3, 3, 9, 0, 0, 0, time.UTC) }

// appendAt appends events that occurred at a time, a minute apart.
func appendAt(t testing.TB, log *eventstoretest.Log, id eventstore.StreamID, at time.Time, payloads ...any) eventstore.Receipt {
	t.Helper()
	events := make([]any, len(payloads))
	for i, p := range payloads {
		events[i] = eventstore.Event{Data: p, OccurredAt: at.Add(time.Duration(i) * time.Minute)}
	}
	receipt, err := log.Append(t.Context(), id, eventstore.Any, events...)
	require.NoError(t, err)
	return receipt
}

// appendWorld appends a small world, always the same: two users, two projects, six personas, three discussions over two
// weeks, two surveys, an edit.
func appendWorld(t testing.TB, log *eventstoretest.Log) {
	t.Helper()
	at := smallWorld()
	for i, name := range []string{"Ada", "Ben"} {
		user, project := fmt.Sprintf("u%d", i+1), fmt.Sprintf("p%d", i+1)
		appendAt(t, log, focusgroup.UserStream(user), at, focusgroup.UserRegistered{UserID: user, Name: name, Company: "Sight", Country: "PL"})
		appendAt(t, log, focusgroup.ProjectStream(project), at, focusgroup.ProjectCreated{ProjectID: project, UserID: user, Name: "Project " + name, Industry: "food"})
	}
	for i := range 6 {
		persona := smallPersona(i)
		appendAt(t, log, focusgroup.PersonaStream(persona.PersonaID), at.Add(time.Hour), persona)
	}
	edited := focusgroup.PersonaEdited{PersonaID: "a1", ProjectID: "p1", UserID: "u1", Name: "Anna", DurationSeconds: 40, Attributes: smallPersona(0).Attributes}
	edited.Occupation = "surgeon"
	appendAt(t, log, focusgroup.PersonaStream("a1"), at.AddDate(0, 0, 1), edited)
	appendDiscussion(t, log, "discussion-1", at.AddDate(0, 0, 1), "p1", true)
	appendDiscussion(t, log, "discussion-2", at.AddDate(0, 0, 7), "p1", false)
	appendDiscussion(t, log, "discussion-3", at.AddDate(0, 0, 8), "p2", true)
	rating := 4.0
	for i, persona := range []string{"a1", "a2"} {
		appendAt(t, log, focusgroup.SurveyStream("s1-"+persona), at.AddDate(0, 0, 9), focusgroup.SurveyCompleted{
			SurveyID: "s1", ProjectID: "p1", UserID: "u1", PersonaID: persona, DurationSeconds: 90, Usage: smallUsage(i),
			Answers: []focusgroup.SurveyAnswer{
				{Question: "Which one?", Type: focusgroup.SingleChoice, Choices: []string{"the red one"}},
				{Question: "Which ones?", Type: focusgroup.MultipleChoice, Choices: []string{"red", "blue"}},
				{Question: "How good?", Type: focusgroup.Rating, Rating: &rating, ScaleMax: 5},
				{Question: "Why?", Type: focusgroup.OpenText, Text: "because it is red"},
			},
		})
	}
}

func smallUsage(i int) focusgroup.Usage {
	return focusgroup.Usage{Model: []string{"small", "large"}[i%2], TokensIn: 100 + int64(i), TokensOut: 50, CostUSD: 0.25}
}

func smallPersona(i int) focusgroup.PersonaCreated {
	return focusgroup.PersonaCreated{
		PersonaID: fmt.Sprintf("a%d", i+1), ProjectID: []string{"p1", "p1", "p1", "p2", "p2", "p2"}[i], UserID: []string{"u1", "u2"}[i/3],
		Name: []string{"Anna", "Bert", "Cleo", "Dora", "Emil", "Fay"}[i], DurationSeconds: 30 + float64(i),
		Attributes: focusgroup.Attributes{
			Age: 20 + 9*i, Gender: []string{"female", "male", "female"}[i%3], Occupation: []string{"nurse", "cook"}[i%2], SegmentID: "s" + fmt.Sprint(i%2),
			Region: "north", Language: "pl",
		},
		Usage: smallUsage(i),
	}
}

// appendDiscussion appends three turns on each of two questions, and an end where it ends.
func appendDiscussion(t testing.TB, log *eventstoretest.Log, id eventstore.StreamID, at time.Time, project string, ends bool) {
	t.Helper()
	user, personas := "u1", []string{"a1", "a2", "a3"}
	if project == "p2" {
		user, personas = "u2", []string{"a4", "a5", "a6"}
	}
	started := focusgroup.DiscussionStarted{ProjectID: project, UserID: user, ModeratorID: "mod", Title: "On packages", Language: "en", Questions: []string{"What do you see?", "Would you buy it?"}}
	for _, p := range personas {
		started.Participants = append(started.Participants, focusgroup.Participant{PersonaID: p, Name: p})
	}
	payloads := []any{started}
	for q, question := range started.Questions {
		for i, p := range personas {
			turn := focusgroup.Turn{
				ProjectID: project, UserID: user, ModeratorID: "mod", PersonaID: p, PersonaName: p, Role: focusgroup.RoleParticipant, Question: question,
				Text: []string{"a red box", "it is a box and it is red", "nothing"}[i], Language: "en", DurationSeconds: float64(4 + i + q), Usage: smallUsage(i),
			}
			if i == 2 {
				payloads = append(payloads, focusgroup.Followup(turn))
				continue
			}
			payloads = append(payloads, focusgroup.Response(turn))
		}
	}
	if ends {
		payloads = append(payloads, focusgroup.DiscussionEnded{ProjectID: project, UserID: user, Reason: "completed", DurationSeconds: 600, Usage: smallUsage(0)})
	}
	appendAt(t, log, id, at, payloads...)
}

// builtStar runs a star over all that the log holds, and refreshes its aggregates.
func builtStar(t testing.TB, log *eventstoretest.Log, config analytics.Config) *analytics.Star {
	t.Helper()
	star, err := analytics.New(log.Store, config)
	require.NoError(t, err)
	runUntilSettled(t, log, star)
	_, err = star.Refresh(t.Context())
	require.NoError(t, err)
	return star
}

// tamper changes the tables behind the constraints' back.
func tamper(t testing.TB, log *eventstoretest.Log, statements ...string) {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(t.Context(), log.Pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `SELECT set_config('session_replication_role', 'replica', true), set_config('search_path', $1, true)`, log.Schema())
		for _, statement := range statements {
			if err == nil {
				_, err = tx.Exec(t.Context(), statement)
			}
		}
		return err
	}))
}
