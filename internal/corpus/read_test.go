package corpus

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

const (
	started = `{"stream":"ami-ES1","seq":1,"type":"discussion_started","occurred_at":"2004-12-13T10:00:00.000Z","time_source":"measured",` +
		`"speaker_id":null,"speaker_name":null,"speaker_role":"system","persona":null,"question":null,"text":"","duration_seconds":null,` +
		`"meta":{"corpus":"QMSum/ami","split":"train","date_source":null,"topics":["remote <control> design"],"participants":[` +
		`{"id":"FEE005","name":"Project Manager","role":"moderator","persona":{"sex":"F","age":20.0,"native_language":"English","region":"Scotland","role":"Project Manager"}},` +
		`{"id":"MEE006","name":"Marketing","role":"participant","persona":{"sex":"M","age":null,"native_language":"French","region":null,"role":"Marketing"}},` +
		`{"id":"X","name":"Guest","persona":null}]}}`
	followup = `{"stream":"ami-ES1","seq":2,"type":"followup","occurred_at":"2004-12-13T10:00:50.42Z","time_source":"measured",` +
		`"speaker_id":"FEE005","speaker_name":"Project Manager","speaker_role":"moderator","persona":{"sex":"F"},"question":null,` +
		`"text":"Is it <small> & cheap?","duration_seconds":2.5,"meta":{"topic":["costs"],"addressee":null,"reply_to_seq":null}}`
	response = `{"stream":"ami-ES1","seq":3,"type":"response","occurred_at":"2004-12-13T10:00:49Z","time_source":"interpolated",` +
		`"speaker_id":"MEE006","speaker_name":"Marketing","speaker_role":"participant","persona":null,"question":"Is it cheap?",` +
		`"text":"","duration_seconds":null,"meta":{"reply_to_seq":2,"reply_relation":"POS"}}`
	ended = `{"stream":"ami-ES1","seq":4,"type":"discussion_ended","occurred_at":"2004-12-13T10:20:00Z","time_source":"measured",` +
		`"speaker_id":null,"speaker_name":null,"speaker_role":"system","persona":null,"question":null,"text":"","duration_seconds":1200.0,"meta":{"turns":2}}`
)

func file(lines ...string) io.Reader { return strings.NewReader(strings.Join(lines, "\n") + "\n") }

func collect(t *testing.T, lines iter.Seq2[focusgroup.Line, error]) []focusgroup.Line {
	t.Helper()
	var out []focusgroup.Line
	for line, err := range lines {
		require.NoError(t, err)
		out = append(out, line)
	}
	return out
}

// payload decodes a line as the log will.
func payload(t *testing.T, line focusgroup.Line) any {
	t.Helper()
	raw, ok := line.Event.Data.(eventstore.Raw)
	require.True(t, ok)
	data, err := focusgroup.Codec().Decode(raw)
	require.NoError(t, err)
	return data
}

func metadata(t *testing.T, line focusgroup.Line) string {
	t.Helper()
	text, err := json.Marshal(line.Event.Metadata)
	require.NoError(t, err)
	return string(text)
}

func TestReadConvertsEveryType(t *testing.T) {
	lines := collect(t, Read(file(started, followup, "", response, ended)))
	require.Len(t, lines, 4)
	for i, line := range lines {
		require.Equal(t, eventstore.StreamID("discussion-ami-ES1"), line.StreamID)
		require.Equal(t, eventstore.Version(i+1), line.Version)
		require.Equal(t, "qmsum-ami", line.Event.Project)
		require.EqualValues(t, 5, line.Event.ID.Version())
	}
	require.Equal(t, []int{1, 2, 4, 5}, []int{lines[0].Number, lines[1].Number, lines[2].Number, lines[3].Number})
	require.Equal(t, time.Date(2004, 12, 13, 10, 0, 50, 420e6, time.UTC), lines[1].Event.OccurredAt.UTC())

	require.Equal(t, focusgroup.DiscussionStarted{
		ProjectID: "qmsum-ami", ModeratorID: "FEE005", Title: "QMSum/ami ES1", Language: "en",
		Participants: []focusgroup.Participant{
			{PersonaID: "FEE005", Name: "Project Manager", Role: focusgroup.RoleModerator, Attributes: focusgroup.Attributes{
				Age: 20, Gender: "female", Occupation: "Project Manager", Region: "Scotland", Language: "English",
			}},
			{PersonaID: "MEE006", Name: "Marketing", Role: focusgroup.RoleParticipant, Attributes: focusgroup.Attributes{
				Gender: "male", Occupation: "Marketing", Language: "French",
			}},
			{PersonaID: "X", Name: "Guest"},
		},
	}, payload(t, lines[0]))
	require.Equal(t, focusgroup.Followup{
		ProjectID: "qmsum-ami", ModeratorID: "FEE005", PersonaID: "FEE005", PersonaName: "Project Manager",
		Role: focusgroup.RoleModerator, Text: "Is it <small> & cheap?", Language: "en", DurationSeconds: 2.5,
	}, payload(t, lines[1]))
	require.Equal(t, focusgroup.Response{
		ProjectID: "qmsum-ami", ModeratorID: "FEE005", PersonaID: "MEE006", PersonaName: "Marketing",
		Role: focusgroup.RoleParticipant, Question: "Is it cheap?", Language: "en", ReplyTo: 2,
	}, payload(t, lines[2]))
	require.Equal(t, focusgroup.DiscussionEnded{ProjectID: "qmsum-ami", Reason: "completed", DurationSeconds: 1200}, payload(t, lines[3]))

	require.Contains(t, string(lines[1].Event.Data.(eventstore.Raw).JSON), "<small> & cheap", "text is stored as it is readable")
	require.JSONEq(t, `{"corpus":"QMSum/ami","split":"train","topics":["remote <control> design"],"time_source":"measured"}`, metadata(t, lines[0]))
	require.JSONEq(t, `{"topic":["costs"],"time_source":"measured"}`, metadata(t, lines[1]))
	require.JSONEq(t, `{"reply_relation":"POS","time_source":"interpolated"}`, metadata(t, lines[2]))
	require.JSONEq(t, `{"turns":2,"time_source":"measured"}`, metadata(t, lines[3]))
}

func TestReadGivesTheSameEventIDsEachTime(t *testing.T) {
	first, second := collect(t, Read(file(started, followup))), collect(t, Read(file(started, followup)))
	require.Equal(t, first, second)
	require.NotEqual(t, first[0].Event.ID, first[1].Event.ID)
	require.Equal(t, "770e1a99-2aa7-5351-a6c0-a82429f447d0", first[0].Event.ID.String(), "ids of earlier imports must be met again")
}

func TestReadKeepsMixedStreamsApart(t *testing.T) {
	other := func(line string) string {
		return strings.NewReplacer("ami-ES1", "amida-ES1", "QMSum/ami", "AMI", `"role":"moderator"`, `"role":"participant"`).Replace(line)
	}
	lines := collect(t, Read(file(started, other(started), other(followup), followup, response, ended, other(response), started)))
	require.Len(t, lines, 8, "a stream may begin again once it has ended")
	require.Equal(t, "ami", lines[2].Event.Project)
	require.Empty(t, payload(t, lines[2]).(focusgroup.Followup).ModeratorID, "unknown where no participant says it")
	require.Equal(t, "qmsum-ami", lines[3].Event.Project)
}

func TestReadNamesLineAndFieldOfWhatIsWrong(t *testing.T) {
	for _, test := range wrongFiles() {
		t.Run(test.name, func(t *testing.T) {
			count := 0
			var last error
			for _, err := range Read(file(test.lines...)) {
				require.NoError(t, last, "the error comes last and once")
				last = err
				count++
			}
			require.Equal(t, test.line, count, "the lines before the wrong one come first")
			var wrong *focusgroup.RecordingError
			require.ErrorAs(t, last, &wrong)
			require.Equal(t, test.line, wrong.Line)
			require.Equal(t, test.field, wrong.Field)
			require.ErrorContains(t, wrong.Err, test.text)
		})
	}
}

type wrongFile struct {
	name  string
	lines []string
	line  int
	field string
	text  string
}

func wrongFiles() []wrongFile {
	edit := func(line string, oldNew ...string) string {
		out := strings.NewReplacer(oldNew...).Replace(line)
		if out == line {
			panic("the edit changes nothing")
		}
		return out
	}
	return []wrongFile{
		{"not JSON", []string{started, "{"}, 2, "", "unexpected end"},
		{"not UTF-8", []string{started, edit(followup, "small", "sm\xffll")}, 2, "", "not valid UTF-8"},
		{"no stream", []string{edit(started, `"stream":"ami-ES1",`, "")}, 1, "stream", "is missing"},
		{"empty stream", []string{edit(started, `"ami-ES1"`, `""`)}, 1, "stream", "cannot name"},
		{"control character in stream", []string{edit(started, `ami-ES1`, `a\n`)}, 1, "stream", "cannot name"},
		{"null type", []string{edit(started, `"discussion_started"`, "null")}, 1, "type", "is missing"},
		{"odd seq", []string{edit(started, `"seq":1`, `"seq":"1"`)}, 1, "seq", "cannot unmarshal string"},
		{"hole in seq", []string{started, response}, 2, "seq", "is 3, the next of ami-ES1 is 2"},
		{"repeated seq", []string{started, started}, 2, "seq", "is 1, the next of ami-ES1 is 2"},
		{"no start", []string{followup}, 1, "seq", "is 2, the next of ami-ES1 is 1"},
		{"other start", []string{edit(followup, `"seq":2`, `"seq":1`)}, 1, "type", "begins once"},
		{"second start", []string{started, edit(started, `"seq":1`, `"seq":2`)}, 2, "type", "begins once"},
		{"unknown type", []string{started, edit(followup, `"followup"`, `"laughter"`)}, 2, "type", "laughter"},
		{"odd time", []string{edit(started, "2004-12-13T10:00:00.000Z", "Monday")}, 1, "occurred_at", "Monday"},
		{"unknown field", []string{edit(started, `"persona":null,"question"`, `"mood":"good","question"`)}, 1, "mood", "not a field"},
		{"no meta", []string{started[:strings.Index(started, `,"meta"`)] + "}"}, 1, "meta.corpus", "is missing"},
		{"odd meta", []string{started, edit(followup, `{"topic":["costs"],"addressee":null,"reply_to_seq":null}`, "7")}, 2, "meta", "cannot unmarshal"},
		{"nameless corpus", []string{edit(started, "QMSum/ami", "--")}, 1, "meta.corpus", "holds no letter"},
		{"no participants", []string{edit(started, `"participants":[`, `"people":[`)}, 1, "meta.participants", "is missing"},
		{"participant without id", []string{edit(started, `"id":"X",`, "")}, 1, "meta.participants[2].id", "is missing"},
		{"odd role", []string{edit(started, `"role":"participant"`, `"role":"king"`)}, 1, "meta.participants[1].role", "king"},
		{"odd age", []string{edit(started, `"age":20.0`, `"age":"old"`)}, 1, "meta.participants.persona.age", "cannot unmarshal"},
		{"broken age", []string{edit(started, `"age":20.0`, `"age":20.5`)}, 1, "meta.participants[0].persona.age", "whole years"},
		{"negative age", []string{edit(started, `"age":20.0`, `"age":-1`)}, 1, "meta.participants[0].persona.age", "whole years"},
		{"odd sex", []string{edit(started, `"sex":"M"`, `"sex":"Q"`)}, 1, "meta.participants[1].persona.sex", "want M or F"},
		{"no speaker", []string{started, edit(followup, `"FEE005"`, "null")}, 2, "speaker_id", "is missing"},
		{"system speaks", []string{started, edit(followup, `"speaker_role":"moderator"`, `"speaker_role":"system"`)}, 2, "speaker_role", "system"},
		{"no text", []string{started, edit(followup, `"Is it <small> & cheap?"`, "null")}, 2, "text", "is missing"},
		{"negative duration", []string{started, edit(followup, "2.5", "-2.5")}, 2, "duration_seconds", "-2.5"},
		{"odd reply", []string{started, edit(followup, `"reply_to_seq":null`, `"reply_to_seq":"x"`)}, 2, "meta.reply_to_seq", "cannot unmarshal"},
		{"negative reply", []string{started, edit(followup, `"reply_to_seq":null`, `"reply_to_seq":-1`)}, 2, "meta.reply_to_seq", "start at 1"},
	}
}

func TestReadAnyTakesCorpusFilesAndRecordings(t *testing.T) {
	recording := `{"recording":1,"stream":"discussion-1","version":1,"type":"discussion_ended","occurred_at":"2026-01-02T03:04:05Z","data":{}}`
	require.Equal(t, collect(t, focusgroup.ReadRecording(file("", recording))), collect(t, ReadAny(file("", recording))))
	require.Equal(t, collect(t, Read(file(started, followup))), collect(t, ReadAny(file(started, followup))))
	require.Empty(t, collect(t, ReadAny(file(""))))

	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err := io.Copy(w, file(started, followup, response, ended))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.Len(t, collect(t, ReadAny(&zipped)), 4)

	for _, err := range ReadAny(file(started, followup)) {
		require.NoError(t, err)
		break // leaving early is allowed
	}
}

func TestReadAnyRefusesAnythingElse(t *testing.T) {
	for name, text := range map[string]string{
		"another object": `{"stream":"ami-ES1"}`, "no object": `[1]`, "no JSON": `hello`,
	} {
		t.Run(name, func(t *testing.T) {
			var wrong *focusgroup.RecordingError
			for _, err := range ReadAny(file("", text)) {
				require.ErrorAs(t, err, &wrong)
			}
			require.NotNil(t, wrong)
			require.Equal(t, 2, wrong.Line)
		})
	}
	broken := errors.New("the disk is gone")
	for _, err := range ReadAny(brokenReader{err: broken}) {
		require.ErrorIs(t, err, broken)
	}
}

type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

// endless is a corpus file without an end: whoever collects before yielding never returns.
type endless struct {
	seq     int
	pending []byte
	served  int
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.pending) == 0 {
		line := started
		if e.seq++; e.seq > 1 {
			line = strings.Replace(followup, `"seq":2`, fmt.Sprintf(`"seq":%d`, e.seq), 1)
		}
		e.pending = []byte(line + "\n")
	}
	n := copy(p, e.pending)
	e.pending = e.pending[n:]
	e.served += n
	return n, nil
}

func TestReadAnyStreams(t *testing.T) {
	source, count := &endless{}, 0
	for _, err := range ReadAny(source) {
		require.NoError(t, err)
		if count++; count == 5000 {
			break
		}
	}
	require.Less(t, source.served, 5000*len(followup)+256<<10, "it reads little ahead")
}
