package focusgroup_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

func newLog(t *testing.T) *eventstoretest.Log {
	t.Helper()
	return eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
}

func at(seconds int) time.Time {
	return time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC).Add(time.Duration(seconds) * time.Second)
}

func event(seconds int, payload any) eventstore.Event {
	return eventstore.Event{Data: payload, OccurredAt: at(seconds)}
}

// talk is a discussion in which people talk over each other and someone uninvited speaks.
func talk() []any {
	const q1, q2, q3 = "What do you see first?", "What would you pay?", "And at Christmas?"
	usage := focusgroup.Usage{Model: "m", TokensIn: 100, TokensOut: 20, CostUSD: 0.25}
	return []any{
		event(0, focusgroup.DiscussionStarted{
			ProjectID: "p1", UserID: "u1", ModeratorID: "mod", Title: "Packs", Language: "en", Questions: []string{q1, q2},
			Participants: []focusgroup.Participant{
				{PersonaID: "ann", Name: "Ann", Attributes: focusgroup.Attributes{Age: 34}}, {PersonaID: "bob", Name: "Bob"},
			},
		}),
		event(10, focusgroup.Response{PersonaID: "ann", Question: q1, Text: "The green lid", DurationSeconds: 4, Usage: usage}),
		event(9, focusgroup.Response{PersonaID: "bob", Question: q1, Text: "Nothing", DurationSeconds: 1.5}),
		event(20, focusgroup.Followup{ModeratorID: "mod", Role: focusgroup.RoleModerator, Question: q1, Text: "Why?", DurationSeconds: 1}),
		event(25, focusgroup.Response{PersonaID: "ann", Question: q1, Text: "It is green", DurationSeconds: 2, ReplyTo: 4}),
		event(40, focusgroup.Response{PersonaID: "eve", PersonaName: "Eve", Question: q3, Text: "More", Usage: usage}),
		event(50, focusgroup.Followup{PersonaID: "bob", Text: "Hm"}),
		event(60, focusgroup.DiscussionEnded{Reason: "completed", Usage: focusgroup.Usage{TokensIn: 7}}),
	}
}

func TestDiscussionStateSaysWhatItsEventsSay(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	id := focusgroup.NewDiscussionID()
	_, err := log.Append(t.Context(), id, eventstore.NoStream, talk()...)
	require.NoError(t, err)
	d, err := focusgroup.Load(t.Context(), log.Store, id)
	require.NoError(t, err)

	require.Equal(t, id, d.ID)
	require.EqualValues(t, 8, d.Version)
	require.Equal(t, focusgroup.StatusEnded, d.Status)
	require.Equal(t, "completed", d.EndReason)
	require.Equal(t, "p1", d.ProjectID)
	require.Equal(t, []time.Time{at(0), at(60), at(60)}, []time.Time{d.StartedAt, d.LastAt, d.EndedAt})
	require.Equal(t, 4, d.Responses)
	require.Equal(t, 2, d.Followups)
	require.InDelta(t, 8.5, d.SpokenSeconds, 1e-9)
	require.Equal(t, focusgroup.Usage{TokensIn: 207, TokensOut: 40, CostUSD: 0.5}, d.Usage)
	require.Equal(t, focusgroup.TurnOrder{0, 1, 2, 0, 3, 1}, d.TurnOrder)

	require.Len(t, d.Participants, 4)
	ann := d.Participants[0]
	require.Equal(t, 34, ann.Age)
	require.True(t, ann.Invited)
	require.Equal(t, []int{2, 2, 6}, []int{ann.Turns, ann.Responses, ann.Words})
	require.Equal(t, "mod", d.Participants[2].PersonaID)
	require.Equal(t, focusgroup.RoleModerator, d.Participants[2].Role)
	require.Equal(t, "Eve", d.Participants[3].Name)
	require.False(t, d.Participants[3].Invited)

	require.Len(t, d.Questions, 3)
	require.Equal(t, []focusgroup.Answer{{Participant: 0, First: 2, Responses: 2}, {Participant: 1, First: 3, Responses: 1}}, d.Questions[0].Answers)
	require.Equal(t, 1, d.Questions[0].Followups)
	require.Equal(t, at(10), d.Questions[0].AskedAt)
	require.Zero(t, d.Questions[1].AskedIn, "planned, never asked")
	require.True(t, d.Questions[1].Planned)
	require.EqualValues(t, 6, d.Questions[2].AskedIn)
	require.False(t, d.Questions[2].Planned)

	encoded, err := json.Marshal(d)
	require.NoError(t, err)
	var decoded focusgroup.Discussion
	require.NoError(t, json.Unmarshal(encoded, &decoded))
	require.Equal(t, *d, decoded, "the state survives JSON")
}

func TestApplyRefusesWhatIsNotNext(t *testing.T) {
	t.Parallel()
	recorded := func(id eventstore.StreamID, version eventstore.Version) eventstore.Recorded {
		return eventstore.Recorded{StreamID: id, Version: version, OccurredAt: at(0), Data: focusgroup.Response{PersonaID: "a"}}
	}
	var d focusgroup.Discussion
	require.NoError(t, d.Apply(recorded("d-1", 1)))
	before := d
	for _, e := range []eventstore.Recorded{recorded("d-1", 0), recorded("d-1", 1), recorded("d-2", 2)} {
		require.ErrorIs(t, d.Apply(e), focusgroup.ErrOutOfOrder)
		require.Equal(t, before, d)
	}
	require.NoError(t, d.Apply(eventstore.Recorded{StreamID: "d-1", Version: 2, OccurredAt: at(1), Data: eventstore.Raw{Type: "other"}}))
	require.EqualValues(t, 2, d.Version)
	require.Equal(t, 1, d.Responses)
	require.NoError(t, d.Apply(recorded("d-1", 4)), "what occurred by a time may have holes")

	for _, versions := range [][]eventstore.Version{{2}, {1, 3}} { // a whole discussion has none
		_, err := focusgroup.Fold(func(yield func(eventstore.Recorded, error) bool) {
			for _, version := range versions {
				if !yield(recorded("d-1", version), nil) {
					return
				}
			}
		})
		require.ErrorIs(t, err, focusgroup.ErrOutOfOrder)
	}
}

// Speakers without an id are told apart by role and name.
func TestSpeakersWithoutAnID(t *testing.T) {
	t.Parallel()
	var d focusgroup.Discussion
	for i, payload := range []any{
		focusgroup.DiscussionStarted{Participants: []focusgroup.Participant{{Name: "Ann"}, {Name: "Bob"}}},
		focusgroup.Followup{Role: focusgroup.RoleModerator, Text: "Well?"},
		focusgroup.Response{PersonaName: "Bob", Text: "Yes"},
		focusgroup.Response{PersonaName: "Eve", Text: "No"},
		focusgroup.Response{PersonaName: "Ann", Role: focusgroup.RoleParticipant, Text: "Maybe"},
		focusgroup.Followup{Role: focusgroup.RoleModerator, Text: "Thanks"},
	} {
		require.NoError(t, d.Apply(eventstore.Recorded{StreamID: "d-1", Version: eventstore.Version(i + 1), OccurredAt: at(i), Data: payload}))
	}
	require.Equal(t, focusgroup.TurnOrder{2, 1, 3, 0, 2}, d.TurnOrder)
	require.Len(t, d.Participants, 4)
}

func TestLoadOfNothingIsNotFound(t *testing.T) {
	t.Parallel()
	_, err := focusgroup.Load(t.Context(), newLog(t).Store, "discussion-none")
	require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
}

// Every type of the vocabulary goes through a log and comes back equal, under its project.
func TestVocabularyRoundTrip(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	rating := 4.5
	usage := focusgroup.Usage{Model: "m", TokensIn: 1, TokensOut: 2, CostUSD: 0.000015}
	for stream, payloads := range map[eventstore.StreamID][]any{
		focusgroup.UserStream("u1"):    {focusgroup.UserRegistered{UserID: "u1", Name: "Zofia", Email: "z@example.org", Company: "Badania", Country: "PL"}},
		focusgroup.ProjectStream("p1"): {focusgroup.ProjectCreated{ProjectID: "p1", UserID: "u1", Name: "Packs", Industry: "food"}},
		focusgroup.PersonaStream("ann"): {
			focusgroup.PersonaCreated{PersonaID: "ann", ProjectID: "p1", Name: "Ann", Usage: usage, Attributes: focusgroup.Attributes{Age: 34, Gender: "female", Occupation: "nurse", SegmentID: "s1"}},
			focusgroup.PersonaEdited{PersonaID: "ann", ProjectID: "p1", Name: "Anna", Changed: []string{"name"}, DurationSeconds: 12},
		},
		focusgroup.SurveyStream("s1"): {focusgroup.SurveyCompleted{SurveyID: "s1", ProjectID: "p1", PersonaID: "ann", Answers: []focusgroup.SurveyAnswer{
			{Question: "One?", Type: focusgroup.SingleChoice, Choices: []string{"a"}},
			{Question: "Many?", Type: focusgroup.MultipleChoice, Choices: []string{"a", "b"}},
			{Question: "How much?", Type: focusgroup.Rating, Rating: &rating, ScaleMax: 5},
			{Question: "Why?", Type: focusgroup.OpenText, Text: "Because"},
		}}},
	} {
		_, err := log.Append(t.Context(), stream, eventstore.NoStream, payloads...)
		require.NoError(t, err)
		for i, e := range eventstoretest.Collect(t, log.Stream(t.Context(), stream, 0)) {
			require.Equal(t, payloads[i], e.Data)
		}
		if stream.Category() != "user" {
			head, err := log.Head(t.Context(), stream)
			require.NoError(t, err)
			require.Equal(t, "p1", head.Project, stream)
		}
	}
	_, err := log.Append(t.Context(), "survey-2", eventstore.NoStream, focusgroup.SurveyCompleted{Answers: []focusgroup.SurveyAnswer{{Type: "essay"}}})
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	_, err = focusgroup.Codec().Decode(eventstore.Raw{Type: focusgroup.TypeSurveyCompleted, SchemaVersion: 1, JSON: json.RawMessage(`{"answers":[{"type":"essay"}]}`)})
	require.ErrorIs(t, err, eventstore.ErrBadBody)
	require.ErrorContains(t, err, "essay")
}
