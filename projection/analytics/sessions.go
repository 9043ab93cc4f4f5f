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
		Grain: "A row a start of a discussion, mostly one a discussion; its numbers grow until it ends. What follows a start belongs to it, until the next one. Turns before the first start belong to that, an end before it to none.",
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
			{Name: "ended_at", Type: "timestamptz", Comment: "When it ended, for the last time; NULL while it runs."},
			{Name: "end_reason", Type: "text", Comment: "Why it ended; NULL where unknown."},
			durationColumn("What the end says it took, or else the seconds from its start to its end, below 0 where that occurred first; NULL while it runs."),
		},
		Rows: func(e eventstore.Recorded) ([]Row, error) {
			d, ok := e.Data.(focusgroup.DiscussionStarted)
			if !ok { // the others change its row
				return nil, unexpected(e, focusgroup.TypeDiscussionStarted)
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
	touched := map[string]bool{}
	var ended []eventstore.Recorded
	for _, e := range batch.Events {
		switch e.Data.(type) {
		case focusgroup.DiscussionStarted, focusgroup.Response, focusgroup.Followup:
			touched[string(e.StreamID)] = true
		case focusgroup.DiscussionEnded:
			ended = append(ended, e)
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
  FROM (SELECT s.position AS session, count(DISTINCT question) AS questions,
               count(*) FILTER (WHERE kind = 'response' AND NOT is_moderator) AS responses,
               count(*) FILTER (WHERE kind = 'followup') AS followups,
               count(DISTINCT persona_id) FILTER (WHERE persona_id <> '' AND NOT is_moderator) AS participants,
               coalesce(sum(words) FILTER (WHERE NOT is_moderator), 0) AS words,
               avg(words) FILTER (WHERE kind = 'response' AND NOT is_moderator) AS words_per_response,
               avg(on_question::integer) AS on_question_share,
               avg(distinct_words::double precision / nullif(words, 0)) FILTER (WHERE NOT is_moderator) AS lexical_variety,
               sum(duration_seconds) AS spoken_seconds,
               sum(duration_seconds) FILTER (WHERE question IS NOT NULL) AS question_seconds
          FROM (SELECT discussion_id, position, CASE WHEN lag(position) OVER w IS NULL THEN 0 ELSE position END AS since,
                       coalesce(lead(position) OVER w, 9223372036854775807) AS until
                  FROM %[1]s WHERE discussion_id = ANY ($1::text[]) WINDOW w AS (PARTITION BY discussion_id ORDER BY position)) AS s
          JOIN %[2]s AS t ON t.discussion_id = s.discussion_id AND t.position >= s.since AND t.position < s.until
         WHERE t.discussion_id = ANY ($1::text[]) GROUP BY s.position) AS t
 WHERE s.position = t.session AND s.discussion_id = ANY ($1::text[])
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

// endSessions notes the ends: each is that of the last start before it. A discussion is completed unless its end names another
// reason.
func endSessions(ctx context.Context, tx pgx.Tx, batch *projection.Batch, ended []eventstore.Recorded, marks dirty) error {
	if len(ended) == 0 {
		return nil
	}
	var ids, reasons []string
	var positions []int64
	var times []time.Time
	var seconds []float64
	for _, e := range ended {
		d := e.Data.(focusgroup.DiscussionEnded)
		ids, positions, reasons = append(ids, string(e.StreamID)), append(positions, int64(e.Position)), append(reasons, d.Reason)
		times, seconds = append(times, e.OccurredAt), append(seconds, d.DurationSeconds)
	}
	err := changed(ctx, tx, marks, `
UPDATE `+batch.Table(FactSessions)+` AS s
   SET completed = e.reason IN ('', 'completed'), ended_at = e.at, end_reason = nullif(e.reason, ''),
       duration_seconds = coalesce(nullif(e.seconds, 0), extract(epoch FROM e.at - s.timestamp))
  FROM (SELECT DISTINCT ON (b.session) b.session, e.*
          FROM unnest($1::text[], $2::bigint[], $3::text[], $4::timestamptz[], $5::double precision[]) AS e (id, position, reason, at, seconds)
         CROSS JOIN LATERAL (SELECT position AS session FROM `+batch.Table(FactSessions)+` WHERE discussion_id = e.id AND position < e.position
                              ORDER BY position DESC LIMIT 1) AS b
         ORDER BY b.session, e.position DESC) AS e
 WHERE s.position = e.session AND s.discussion_id = ANY ($1::text[])
RETURNING s.timestamp, s.project_id`, ids, positions, reasons, times, seconds)
	if err != nil {
		return fmt.Errorf("ending sessions: %w", err)
	}
	return nil
}
