package corpus

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode"

	"github.com/google/uuid"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// eventIDs is the namespace of event ids. Changing it would make every event imported so far look new.
//
//nolint:gochecknoglobals // a constant that Go cannot write
var eventIDs = uuid.MustParse("6f1d2c94-3b57-5e0a-9c41-7d8be2f05a13")

// language is that of every discussion in the corpus.
const language = "en"

type converter struct {
	open map[string]discussion // by stream; an ended one is forgotten
}

// discussion is what later lines of a stream need from its first.
type discussion struct {
	project   string
	moderator string // empty where the participants do not say
	last      eventstore.Version
}

func (c *converter) convert(text focusgroup.TextLine) (focusgroup.Line, error) {
	r, err := parse(text)
	if err != nil {
		return focusgroup.Line{}, err
	}
	id := eventstore.StreamID("discussion-" + r.stream)
	if err := id.Validate(); err != nil || r.stream == "" {
		return focusgroup.Line{}, r.wrongf("stream", "%q cannot name a stream", r.stream)
	}
	d := c.open[r.stream]
	if r.seq != d.last+1 {
		return focusgroup.Line{}, r.wrongf("seq", "is %d, the next of %s is %d", r.seq, r.stream, d.last+1)
	}
	if (r.kind == focusgroup.TypeDiscussionStarted) != (r.seq == 1) {
		return focusgroup.Line{}, r.wrongf("type", "is %q at seq %d, each stream begins once, with %s", r.kind, r.seq, focusgroup.TypeDiscussionStarted)
	}
	data, err := d.payload(r)
	if err != nil {
		return focusgroup.Line{}, err
	}
	body, err := marshal(data)
	if err != nil {
		return focusgroup.Line{}, r.wrong("", err)
	}
	if d.last = r.seq; r.kind == focusgroup.TypeDiscussionEnded {
		delete(c.open, r.stream)
	} else {
		c.open[r.stream] = d
	}
	return focusgroup.Line{
		Number: r.number, StreamID: id, Version: r.seq,
		Event: eventstore.Event{
			ID:         uuid.NewSHA1(eventIDs, []byte(r.stream+"\x00"+strconv.FormatInt(int64(r.seq), 10))),
			Data:       eventstore.Raw{Type: r.kind, SchemaVersion: 1, JSON: body},
			OccurredAt: r.occurredAt,
			Metadata:   eventstore.Metadata{Extra: r.extra()},
			Project:    d.project,
		},
	}, nil
}

// payload is the line's event; the first line also fills in the discussion.
func (d *discussion) payload(r *record) (any, error) {
	switch r.kind {
	case focusgroup.TypeDiscussionStarted:
		return d.start(r)
	case focusgroup.TypeResponse:
		turn, err := d.turn(r)
		return focusgroup.Response(turn), err
	case focusgroup.TypeFollowup:
		turn, err := d.turn(r)
		return focusgroup.Followup(turn), err
	case focusgroup.TypeDiscussionEnded:
		return focusgroup.DiscussionEnded{ProjectID: d.project, Reason: "completed", DurationSeconds: r.duration}, nil
	}
	return nil, r.wrongf("type", "%q is not one of a corpus file", r.kind)
}

func (d *discussion) start(r *record) (any, error) {
	var corpus string
	if err := r.decode("meta.corpus", r.meta["corpus"], &corpus, true); err != nil {
		return nil, err
	}
	d.project = projectOf(corpus)
	if d.project == "" {
		return nil, r.wrongf("meta.corpus", "%q holds no letter or digit to name a project by", corpus)
	}
	people, moderator, err := participants(r)
	if err != nil {
		return nil, err
	}
	d.moderator = moderator
	_, meeting, _ := strings.Cut(r.stream, "-") // the corpus is said already
	return focusgroup.DiscussionStarted{
		ProjectID: d.project, ModeratorID: moderator, Title: strings.TrimSpace(corpus + " " + meeting),
		Language: language, Participants: people,
	}, nil
}

// projectOf makes "qmsum-ami" of "QMSum/ami".
func projectOf(corpus string) string {
	words := strings.FieldsFunc(strings.ToLower(corpus), func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) })
	return strings.Join(words, "-")
}

func (d *discussion) turn(r *record) (focusgroup.Turn, error) {
	turn := focusgroup.Turn{
		ProjectID: d.project, ModeratorID: d.moderator, PersonaID: r.speakerID, PersonaName: r.speakerName,
		Role: focusgroup.Role(r.speakerRole), Question: r.question, Language: language, DurationSeconds: r.duration,
	}
	switch {
	case r.speakerID == "":
		return turn, r.wrongf("speaker_id", "is missing")
	case turn.Role != focusgroup.RoleModerator && turn.Role != focusgroup.RoleParticipant:
		return turn, r.wrongf("speaker_role", "is %q, want %s or %s", r.speakerRole, focusgroup.RoleModerator, focusgroup.RoleParticipant)
	case r.text == nil:
		return turn, r.wrongf("text", "is missing")
	case r.duration < 0:
		return turn, r.wrongf("duration_seconds", "is %v", r.duration)
	}
	turn.Text = *r.text
	// It may lie ahead: whoever answers early stands before the turn that asks.
	if err := r.takeMeta("reply_to_seq", &turn.ReplyTo, false); err != nil {
		return turn, err
	}
	if turn.ReplyTo < 0 {
		return turn, r.wrongf("meta.reply_to_seq", "is %d, they start at 1", turn.ReplyTo)
	}
	return turn, nil
}

// marshal leaves < and & as they are, as the log's own codec does.
func marshal(v any) (json.RawMessage, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}
