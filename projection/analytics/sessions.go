package analytics

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection"
)

// sessions is a fact whose rows go on filling: what a discussion's turns add up to.
func sessions() Fact {
	return Fact{
		Name:  FactSessions,
		Grain: "A row a discussion, from its start on; its numbers grow until it ends.",
		Types: []string{focusgroup.TypeDiscussionStarted, focusgroup.TypeDiscussionEnded, focusgroup.TypeResponse, focusgroup.TypeFollowup},
		Columns: []Column{
			{Name: "discussion_id", Type: `text COLLATE "C" NOT NULL`, Comment: "Stream of the discussion.", Index: true},
			{Name: "user_id", Of: Users, Comment: "Who runs it."},
			{Name: "moderator_id", Type: "text", Comment: "Who moderates; NULL where unknown."},
			{Name: "title", Type: "text", Comment: "Its title."},
			{Name: "language", Type: "text", Comment: "BCP 47; NULL where unknown."},
			{Name: "invited", Type: "integer NOT NULL", Comment: "Participants in the invitation, without moderators."},
			{Name: "planned_questions", Type: "integer NOT NULL", Comment: "Questions of the guide."},
			{Name: "questions", Type: "integer NOT NULL DEFAULT 0", Comment: "Different questions that a turn was on."},
			{Name: "responses", Type: "integer NOT NULL DEFAULT 0", Comment: "Responses of participants."},
			{Name: "followups", Type: "integer NOT NULL DEFAULT 0", Comment: "Further turns, the moderator's among them."},
			{Name: "participants", Type: "integer NOT NULL DEFAULT 0", Comment: "Different personas who spoke, without moderators."},
			{Name: "words", Type: "integer NOT NULL DEFAULT 0", Comment: "Words of the participants."},
			{Name: "words_per_response", Type: "double precision", Comment: "Mean words of a response; NULL without responses."},
			{Name: "on_question_share", Type: "double precision", Comment: "Share of the participants' turns on a known question that answer it; NULL without such turns."},
			{Name: "lexical_variety", Type: "double precision", Comment: "Mean share of different words in a participant's turn; NULL without words."},
			{Name: "spoken_seconds", Type: "double precision", Comment: "Seconds of all turns, overlaps counted twice; NULL where none is known."},
			{Name: "seconds_per_question", Type: "double precision", Comment: "Seconds of the turns on a question, divided by the questions; NULL where none is known."},
			{Name: "completed", Type: "boolean NOT NULL DEFAULT false", Comment: "It has ended, for no other reason than that it was completed."},
			{Name: "ended_at", Type: "timestamptz", Comment: "When it ended; NULL while it runs."},
			{Name: "end_reason", Type: "text", Comment: "Why it ended; NULL where unknown."},
			{Name: "duration_seconds", Type: "double precision", Comment: "Seconds from its start to its end, or what the end says it took; NULL while it runs."},
		},
		Rows: func(e eventstore.Recorded) ([]Row, error) {
			d, ok := e.Data.(focusgroup.DiscussionStarted)
			if !ok {
				return nil, nil
			}
			invited := 0
			for _, p := range d.Participants {
				if p.Role != focusgroup.RoleModerator {
					invited++
				}
			}
			return []Row{{d.ProjectID, []any{
				string(e.StreamID), d.UserID, orNull(d.ModeratorID), orNull(d.Title), orNull(d.Language), invited, len(d.Questions),
				0, 0, 0, 0, 0, nil, nil, nil, nil, nil, false, nil, nil, nil,
			}}}, nil
		},
	}
}

// updateSessions sums up the turns of the discussions that a batch has touched: again in full, so that the sums cannot drift.
func (s *Star) updateSessions(ctx context.Context, tx pgx.Tx, batch *projection.Batch, marks dirty) error {
	touched, ended := map[string]bool{}, map[string]eventstore.Recorded{}
	for _, e := range batch.Events {
		switch e.Data.(type) {
		case focusgroup.DiscussionStarted, focusgroup.Response, focusgroup.Followup:
			touched[string(e.StreamID)] = true
		case focusgroup.DiscussionEnded:
			ended[string(e.StreamID)] = e
		}
	}
	if len(touched) > 0 {
		if err := changed(ctx, tx, marks, fmt.Sprintf(sessionSums, batch.Table(FactSessions), batch.Table(FactTurns)), keysOf(touched)); err != nil {
			return fmt.Errorf("summing up sessions: %w", err)
		}
	}
	return endSessions(ctx, tx, batch, ended, marks)
}

const sessionSums = `
UPDATE %[1]s AS s
   SET questions = t.questions, responses = t.responses, followups = t.followups, participants = t.participants, words = t.words,
       words_per_response = t.words_per_response, on_question_share = t.on_question_share, lexical_variety = t.lexical_variety,
       spoken_seconds = t.spoken_seconds, seconds_per_question = t.question_seconds / nullif(t.questions, 0)
  FROM (SELECT discussion_id, count(DISTINCT question) AS questions,
               count(*) FILTER (WHERE kind = 'response' AND NOT is_moderator) AS responses,
               count(*) FILTER (WHERE kind = 'followup') AS followups,
               count(DISTINCT persona_id) FILTER (WHERE persona_id <> '' AND NOT is_moderator) AS participants,
               coalesce(sum(words) FILTER (WHERE NOT is_moderator), 0) AS words,
               avg(words) FILTER (WHERE kind = 'response' AND NOT is_moderator) AS words_per_response,
               avg(on_question::integer) AS on_question_share,
               avg(distinct_words::double precision / nullif(words, 0)) FILTER (WHERE NOT is_moderator) AS lexical_variety,
               sum(duration_seconds) AS spoken_seconds,
               sum(duration_seconds) FILTER (WHERE question IS NOT NULL) AS question_seconds
          FROM %[2]s WHERE discussion_id = ANY ($1::text[]) GROUP BY discussion_id) AS t
 WHERE s.discussion_id = t.discussion_id AND s.discussion_id = ANY ($1::text[])
RETURNING s.timestamp, s.project_id`

// changed runs an update of sessions, and marks the days on which they began.
func changed(ctx context.Context, tx pgx.Tx, marks dirty, sql string, args ...any) error {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	type session struct {
		At      time.Time
		Project string
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[session])
	for _, s := range found {
		marks.fact(s.At, s.Project)
	}
	return err
}

// endSessions notes the ends. A discussion is completed unless its end names another reason.
func endSessions(ctx context.Context, tx pgx.Tx, batch *projection.Batch, ended map[string]eventstore.Recorded, marks dirty) error {
	if len(ended) == 0 {
		return nil
	}
	var ids, reasons []string
	var times []time.Time
	var seconds []float64
	for id, e := range ended {
		d := e.Data.(focusgroup.DiscussionEnded)
		ids, reasons, times, seconds = append(ids, id), append(reasons, d.Reason), append(times, e.OccurredAt), append(seconds, d.DurationSeconds)
	}
	err := changed(ctx, tx, marks, `
UPDATE `+batch.Table(FactSessions)+` AS s
   SET completed = e.reason IN ('', 'completed'), ended_at = e.at, end_reason = nullif(e.reason, ''),
       duration_seconds = coalesce(nullif(e.seconds, 0), extract(epoch FROM e.at - s.timestamp))
  FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::double precision[]) AS e (id, reason, at, seconds)
 WHERE s.discussion_id = e.id
RETURNING s.timestamp, s.project_id`, ids, reasons, times, seconds)
	if err != nil {
		return fmt.Errorf("ending sessions: %w", err)
	}
	return nil
}
